from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from records import StageEnded, read_journal, write_final_fit
from tests.records.results import a_result
from tests.tune.monitor.terminal import frames
from tests.tune.monitor.test_metrics import FakeGauges, Hands
from tests.tune.search.simulated import ZEROS, Simulation, experiment
from tune.monitor.metrics import Gauges
from tune.monitor.watch import Watch
from tune.search.time_budget import TimeBudget
from tune.trials.final_fits import FinalFitJob, final_fits


class Watched:
    """A watch of a finished simulated search, on a console that is no terminal."""

    def __init__(self, folder: Path) -> None:
        spec = experiment(methods={"zeros": ZEROS}, scheduler="none")
        self.simulation = Simulation(spec, folder / "events.jsonl").run()
        self.hands, self.made, self.output = Hands(), FakeGauges(), io.StringIO()
        self.watch = Watch(
            *(self.simulation.search, self.simulation.journal),
            TimeBudget(spec, slots=1, budget=None, began=0.0),
            Console(file=self.output, force_terminal=False, width=40),
            Gauges("simulated", self.made, self.hands),
            self.hands,
        )
        winners = self.simulation.search.winners()
        self.fits = final_fits(winners, spec.final, "data")

    @property
    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()

    def gauge(self, name: str) -> dict[tuple[str, ...], float]:
        return self.made.made[f"clip_search_{name}"].values


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_feature_stage_prints_a_plain_line_every_half_minute(watched: Watched) -> None:
    with watched.watch.features("train and val") as tell:
        for second in range(51, 151):  # workers take their time to start; nothing is told then
            watched.hands.seconds = second
            tell(10 * (second - 50), 1000)
    assert watched.lines == [
        "features of train and val: 10/1000 images",
        "features of train and val: 310/1000 images, 10 a second, about 69 s to go",
        "features of train and val: 610/1000 images, 10 a second, about 39 s to go",
        "features of train and val: 910/1000 images, 10 a second, about 9 s to go",
    ]
    tags = ("simulated", "train and val")
    assert watched.gauge("images_done") == {tags: 1000}
    assert watched.gauge("images_wanted") == {tags: 1000}
    assert watched.gauge("images_per_second") == {tags: 0}  # it is over


def test_cached_features_are_no_work_to_show(watched: Watched) -> None:
    with watched.watch.features("test"):
        pass
    assert watched.lines == []
    assert watched.gauge("images_done") == {}


def finish(fit: FinalFitJob, run_dir: Path, seconds: float) -> None:
    (run_dir / "final_fits").mkdir(exist_ok=True)
    write_final_fit(run_dir, a_result(fit.cell, fit.seed, seconds=seconds))


def test_final_fits_print_plain_lines_and_count_down(watched: Watched, tmp_path: Path) -> None:
    assert len(watched.fits) == 6
    with watched.watch.final_fits(watched.fits, watched.fits, tmp_path) as tell:
        assert watched.gauge("final_fits_left") == {
            ("simulated", "1", "zeros"): 3,
            ("simulated", "100", "zeros"): 3,
        }
        for done, fit in enumerate(watched.fits, start=1):
            watched.hands.seconds = 20.0 * done
            finish(fit, tmp_path, seconds=20.0)
            tell(fit, None)
    # Each took 20 s where the search's trials took 9: what is expected comes nearer to that.
    assert watched.lines == [
        "final fits: 4 left, about 68 s to go",
        "final fits: 2 left, about 36 s to go",
        "final fits: 0 left, about 0 s to go",
    ]
    assert set(watched.gauge("final_fits_left").values()) == {0}
    assert watched.gauge("seconds_left") == {("simulated",): 0}
    spent = watched.gauge("device_seconds")
    assert spent["simulated", "1", "zeros", "final"] == 60


def test_a_resumed_run_counts_the_final_fits_that_are_there(
    watched: Watched, tmp_path: Path
) -> None:
    made, left = watched.fits[:2], watched.fits[2:]
    for fit in made:
        finish(fit, tmp_path, seconds=7.0)
    with watched.watch.final_fits(watched.fits, left, tmp_path) as tell:
        assert sum(watched.gauge("final_fits_left").values()) == 4
        assert sum(watched.gauge("device_seconds").values()) == 14
        tell(left[0], "out of memory")
        assert sum(watched.gauge("final_fits_left").values()) == 4
    assert sum(watched.gauge("device_seconds").values()) == 14


def test_final_fits_that_failed_are_left_and_nothing_waits_for_them(
    watched: Watched, tmp_path: Path
) -> None:
    failed = {1, 4, 5}
    with watched.watch.final_fits(watched.fits, watched.fits, tmp_path) as tell:
        for number, fit in enumerate(watched.fits):
            watched.hands.seconds += 30.0
            if number in failed:
                tell(fit, "the fit diverged")
            else:
                finish(fit, tmp_path, seconds=9.0)
                tell(fit, None)
    assert [line.split(", about")[0] for line in watched.lines] == [
        "final fits: 5 left",
        "final fits: 5 left (1 failed)",
        "final fits: 4 left (1 failed)",
        "final fits: 3 left (1 failed)",
        "final fits: 3 left (2 failed)",
        "final fits: 3 left (3 failed)",
    ]
    assert watched.lines[-1].endswith("about 0 s to go")
    assert sum(watched.gauge("final_fits_left").values()) == 3
    assert watched.gauge("seconds_left") == {("simulated",): 0}


def test_final_fits_that_time_did_not_allow_stay_left(watched: Watched, tmp_path: Path) -> None:
    with watched.watch.final_fits(watched.fits, watched.fits, tmp_path) as tell:
        for fit in watched.fits[:2]:  # less than two seconds after another
            finish(fit, tmp_path, seconds=0.5)
            tell(fit, None)
    assert sum(watched.gauge("final_fits_left").values()) == 4
    assert watched.gauge("seconds_left") == {("simulated",): 0}


def test_a_terminal_gets_one_line_that_changes(watched: Watched) -> None:
    watched.watch.console = Console(file=watched.output, force_terminal=True, width=100)
    with watched.watch.features("test") as tell:
        tell(1, 2)
        tell(2, 2)
    *shown, left = frames(watched.output.getvalue())
    assert all(len(lines) <= 1 for lines in shown)
    assert any("features of test: 2/2 images" in line for lines in shown for line in lines)
    assert left == []


def test_a_stage_says_how_long_it_took(watched: Watched) -> None:
    with watched.watch.timed("features"):
        watched.hands.seconds = 100
    assert watched.lines == ["features: 2 min"]
    assert read_journal(watched.simulation.path)[-1] == StageEnded("features", 100.0)
