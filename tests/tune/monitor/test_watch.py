from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.console import Console

from records import Cell, JournalWriter, StageEnded, read_journal
from tests.tune.monitor.terminal import frames
from tests.tune.monitor.test_metrics import FakeGauges, Hands
from tests.tune.search.simulated import ZEROS, Simulation, experiment
from tune.monitor.metrics import Gauges
from tune.monitor.watch import PLAIN_INTERVAL, Watch, duration
from tune.search.time_budget import TimeBudget


class Watched:
    """A watch of a finished simulated search, on a console that is no terminal."""

    def __init__(self, folder: Path) -> None:
        spec = experiment(methods={"zeros": ZEROS}, scheduler="none")
        self.simulation = Simulation(spec, folder / "events.jsonl").run()
        self.hands, self.made, self.output = Hands(), FakeGauges(), io.StringIO()
        self.clock = TimeBudget(spec, slots=1, budget=None, began=0.0)
        console = Console(file=self.output, force_terminal=False, width=40)
        gauges = Gauges("simulated", self.made, self.hands)
        self.watch = Watch(console, gauges, self.simulation.journal, self.hands)
        self.fits = 3 * list(self.simulation.search.cells)  # three seeds of each cell

    def final_fits(
        self, spent: Mapping[Cell, float] = MappingProxyType({}), made: int = 0
    ) -> AbstractContextManager[Callable[[Cell, float, bool], None]]:
        left = Counter(self.fits[made:])
        return self.watch.final_fits(self.simulation.search, self.clock, left, spent)

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


def test_a_line_is_repeated_where_nothing_ends_for_long(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.monitor.watch.PLAIN_INTERVAL", 0.01)
    watch = replace(watched.watch, now=time.monotonic)
    with watch.line("final fits: 6 left"):
        until = time.monotonic() + 30
        while len(watched.lines) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert watched.lines[:2] == ["final fits: 6 left"] * 2


def test_cached_features_are_no_work_to_show(watched: Watched) -> None:
    with watched.watch.features("test"):
        pass
    assert watched.lines == []
    assert watched.gauge("images_done") == {}


def test_final_fits_print_plain_lines_and_count_down(watched: Watched) -> None:
    assert len(watched.fits) == 6
    with watched.final_fits() as ended:
        assert watched.gauge("final_fits_left") == {
            ("simulated", "1", "zeros"): 3,
            ("simulated", "100", "zeros"): 3,
        }
        for done, cell in enumerate(watched.fits, start=1):
            watched.hands.seconds = 20.0 * done
            ended(cell, 20.0, True)
    # Each took 20 s where the search's trials took 9: what is expected comes nearer to that, but
    # the first fits of each cell, which the search has trained, say nothing of the others.
    assert watched.lines == [
        "final fits: 4 left, about 43 s to go",
        "final fits: 2 left, about 36 s to go",
        "final fits: 0 left, about 3 s to go",
    ]
    assert set(watched.gauge("final_fits_left").values()) == {0}
    assert watched.gauge("seconds_left") == {("simulated",): 0}
    spent = watched.gauge("device_seconds")
    assert spent["simulated", "1", "zeros", "final"] == 60


def test_a_resumed_run_counts_the_final_fits_that_are_there(watched: Watched) -> None:
    with watched.final_fits(dict.fromkeys(watched.fits[:2], 7.0), made=2) as ended:
        assert sum(watched.gauge("final_fits_left").values()) == 4
        assert sum(watched.gauge("device_seconds").values()) == 14
        ended(watched.fits[2], 0.0, False)
        assert sum(watched.gauge("final_fits_left").values()) == 4
    assert sum(watched.gauge("device_seconds").values()) == 14


def test_final_fits_that_failed_are_left_and_nothing_waits_for_them(watched: Watched) -> None:
    failed = {1, 4, 5}
    with watched.final_fits() as ended:
        for number, cell in enumerate(watched.fits):
            watched.hands.seconds += 30.0
            ended(cell, 9.0, number not in failed)
    assert [line.split(", about")[0] for line in watched.lines] == [
        "final fits: 5 left",
        "final fits: 5 left (1 failed)",
        "final fits: 4 left (1 failed)",
        "final fits: 3 left (1 failed)",
        "final fits: 3 left (2 failed)",
        "final fits: 3 left (3 failed)",
    ]
    assert watched.lines[-1].endswith("about 3 s to go")
    assert sum(watched.gauge("final_fits_left").values()) == 3
    assert watched.gauge("seconds_left") == {("simulated",): 0}


def test_final_fits_that_time_did_not_allow_stay_left(watched: Watched) -> None:
    with watched.final_fits() as ended:
        for cell in watched.fits[:2]:  # less than two seconds after another
            ended(cell, 0.5, True)
    assert sum(watched.gauge("final_fits_left").values()) == 4
    assert watched.gauge("seconds_left") == {("simulated",): 0}


def test_a_stage_says_how_long_it_took(watched: Watched) -> None:
    with watched.watch.timed("features"):
        watched.hands.seconds = 100
    assert watched.lines == ["features: 2 min"]
    assert read_journal(watched.simulation.path)[-1] == StageEnded("features", 100.0)


# How often something is shown, and in what words


def watch(folder: Path, terminal: bool) -> tuple[Watch, io.StringIO, Hands]:
    output, hands = io.StringIO(), Hands()
    console = Console(file=output, force_terminal=terminal, width=100)
    gauges, journal = Gauges("simulated", FakeGauges(), hands), JournalWriter(folder / "events")
    return Watch(console, gauges, journal, hands), output, hands


def test_a_terminal_gets_one_line_that_changes(tmp_path: Path) -> None:
    shown, output, _ = watch(tmp_path, terminal=True)
    with shown.line("begins") as show:
        show("goes on")
    *before, left = frames(output.getvalue())
    assert all(len(lines) <= 1 for lines in before)
    assert any("goes on" in line for lines in before for line in lines)
    assert left == []


def test_without_a_terminal_a_line_is_printed_now_and_then(tmp_path: Path) -> None:
    shown, output, hands = watch(tmp_path, terminal=False)
    with shown.line("begins") as show:
        for tenth in range(25):
            hands.seconds = tenth * PLAIN_INTERVAL / 10
            show(f"tenth {tenth}")
    assert output.getvalue() == "tenth 10\ntenth 20\n"


@pytest.mark.parametrize("text", ["[errno 28] no space", "index [/0] is out of bounds"])
def test_a_line_with_brackets_is_printed_as_it_is(text: str, tmp_path: Path) -> None:
    shown, output, _ = watch(tmp_path, terminal=False)
    shown.print(text)
    assert output.getvalue() == f"{text}\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (90000, "25.0 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
