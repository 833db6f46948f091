"""The search as it is shown: what docs/watching.md shows is a simulated search, drawn here."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from records import Cell
from search_spaces import Experiment
from tests.tune.monitor.terminal import frames
from tests.tune.monitor.test_metrics import FakeGauges, Hands
from tests.tune.search.simulated import FROZEN, LLRD, Scorer, Simulation, drawn, experiment
from tune.monitor.metrics import Gauges
from tune.monitor.progress import LIVE_INTERVAL, Progress
from tune.monitor.watch import PLAIN_INTERVAL, Watch, duration
from tune.search.time_budget import TimeBudget

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "watching.md"
STEP = 1.25  # seconds between two reports
PICTURED = 35  # reports before the table of the document


def documented() -> tuple[list[str], list[str]]:
    """The document's table, and its plain lines."""
    blocks = re.findall(r"^```\n(.*?)\n```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    table, plain = (block.split("\n") for block in blocks[:2])
    return table, plain


def accuracy(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
    """Rises with images and samples; tuning gains most where images are few."""
    best = {10: 0.95, 100: 0.99}[cell.partition]
    gain = 0.0 if cell.method == "frozen" else 2 * (1 - best) / 5
    return best + gain - 0.03 * drawn(str(cell), config) - 0.3 / (3 + milestone)


def spec_of(**search: Any) -> Experiment:
    """Two partitions; three trials of a probe and eight of a tuned suffix."""
    methods = {"frozen": FROZEN, "llrd": LLRD}
    return experiment(methods=methods, partitions=(10, 100), **{"trials": 8, **search})


class Shown:
    """A simulated search on two slots, and what is shown of it."""

    def __init__(
        self,
        folder: Path,
        spec: Experiment,
        *,
        terminal: bool,
        scorer: Scorer = accuracy,
        budget: float | None = None,
    ) -> None:
        self.simulation = Simulation(spec, folder / "events.jsonl", scorer, slots=2)
        self.hands, self.made, self.output = Hands(), FakeGauges(), io.StringIO()
        self.clock = TimeBudget(spec, slots=2, budget=budget, began=0.0, now=self.hands)
        self.console = Console(file=self.output, force_terminal=terminal, width=100)
        gauges = Gauges("simulated", self.made, now=self.hands)
        self.watch = Watch(self.console, gauges, self.simulation.journal, self.hands)
        self.progress = Progress(self.simulation.search, self.clock, self.watch)

    def go_on(self, reports: int) -> None:
        """So many reports, as Tune tells of them."""
        for _ in range(reports):
            self.simulation.run(1)
            self.hands.seconds += STEP
            self.progress.on_step_end(0, [])

    def finish(self) -> None:
        while not self.simulation.search.finished:
            self.go_on(1)

    @property
    def screen(self) -> list[str]:
        """What is to be seen now."""
        return frames(self.output.getvalue())[-1]


@pytest.fixture
def terminal(tmp_path: Path) -> Shown:
    return Shown(tmp_path, spec_of(), terminal=True)


@pytest.fixture
def plain(tmp_path: Path) -> Shown:
    return Shown(tmp_path, spec_of(), terminal=False)


def test_the_live_table_is_the_documents(terminal: Shown) -> None:
    with contextlib.closing(terminal.progress):
        terminal.progress.setup()
        terminal.go_on(PICTURED)
        assert terminal.screen == documented()[0]


def test_the_plain_lines_are_the_documents(plain: Shown) -> None:
    with plain.watch.timed("features"):
        plain.hands.seconds += 18
    plain.progress = Progress(plain.simulation.search, plain.clock, plain.watch)
    with plain.watch.timed("search"), contextlib.closing(plain.progress):
        plain.progress.setup()
        plain.finish()
    assert plain.output.getvalue().splitlines() == documented()[1]
    assert "\x1b" not in plain.output.getvalue()


def test_the_terminal_is_left_as_it_was(terminal: Shown) -> None:
    terminal.console.print("before")
    terminal.progress.setup()
    terminal.finish()
    assert len(terminal.screen) == 1 + 4  # a header, two partitions, a line
    terminal.progress.close()
    assert terminal.screen == ["before"]


def test_the_live_table_is_drawn_twice_a_second_and_plain_lines_every_half_minute(
    terminal: Shown, plain: Shown
) -> None:
    for shown, interval in ((terminal, LIVE_INTERVAL), (plain, PLAIN_INTERVAL)):
        shown.progress.setup()
        drawings = []
        for tick in range(41):
            before = shown.output.getvalue()
            shown.hands.seconds = tick * interval / 10
            shown.progress.on_step_end(0, [])
            if shown.output.getvalue() != before:
                drawings.append(tick)
        assert drawings == [10, 20, 30, 40]
        shown.progress.close()


def cells(shown: Shown) -> dict[str, dict[str, str]]:
    """The table's cells by partition and method, drawn now."""
    shown.hands.seconds += LIVE_INTERVAL
    shown.progress.on_step_end(0, [])
    header, *rows = [re.split(r"\s{2,}", line) for line in shown.screen[:-1]]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def test_a_group_without_a_result_has_none_to_show(terminal: Shown) -> None:
    with contextlib.closing(terminal.progress):
        terminal.progress.setup()
        assert cells(terminal)["10%"] == {"frozen": "– 0/3", "llrd": "– 0/8"}
        terminal.simulation.fill()
        assert cells(terminal)["10%"]["frozen"] == "– 0/3 +1"
        assert terminal.screen[-1] == (
            "search: 0 trials done (0 stopped early), 2 running, 0 paused, 20 left; "
            "time to go not known yet"
        )


def test_cells_count_what_the_search_holds(terminal: Shown) -> None:
    with contextlib.closing(terminal.progress):
        terminal.progress.setup()
        while not terminal.simulation.search.finished:
            terminal.go_on(1)
            shown = cells(terminal)
            for cell, state in terminal.simulation.search.cells.items():
                statuses = [state.status(number) for number in state.trials]
                ended = len(statuses) - statuses.count("running") - statuses.count("paused")
                cell = shown[f"{cell.partition:g}%"][cell.method]
                found = re.fullmatch(r"(.+) (\d+)/(\d+)(?: \+(\d+))?(?: \((\d+)✂\))?", cell)
                assert found
                best = state.winner()
                assert found[1] == (f"{100 * best.val_accuracy:.1f}%" if best else "–")
                assert (int(found[2]), int(found[3])) == (ended, state.budget)
                assert int(found[4] or 0) == statuses.count("running")
                assert int(found[5] or 0) == statuses.count("stopped")


def test_what_diverged_or_failed_has_ended_and_was_not_stopped(tmp_path: Path) -> None:
    scores = {"frozen": float("nan"), "llrd": -1.0}  # diverges, dies
    spec = spec_of(trials=2, scheduler="none")
    shown = Shown(tmp_path, spec, terminal=True, scorer=lambda cell, *_: scores[cell.method])
    with contextlib.closing(shown.progress):
        shown.progress.setup()
        shown.finish()
        assert cells(shown)["10%"] == {"frozen": "– 3/3", "llrd": "– 2/2"}


def test_groups_that_are_finished_are_green(terminal: Shown) -> None:
    with contextlib.closing(terminal.progress):
        terminal.progress.setup()
        while not terminal.simulation.search.cells[Cell(10, "frozen")].finished:
            terminal.go_on(1)
        cells(terminal)
        last = terminal.output.getvalue().rsplit("partition", 1)[1]
    green = [text.split()[1] for text in re.findall(r"\x1b\[32m(.*?)\x1b", last)]
    finished = [s for s in terminal.simulation.search.cells.values() if s.finished]
    assert len(green) == len(finished) >= 1
    assert set(green) == {"3/3"}


def test_a_run_resumed_with_a_smaller_budget_has_no_more_trials_than_planned(
    tmp_path: Path,
) -> None:
    Shown(tmp_path, spec_of(trials=4), terminal=False).finish()
    shown = Shown(tmp_path, spec_of(trials=2), terminal=True)
    with contextlib.closing(shown.progress):
        shown.progress.setup()
        assert {row["llrd"].split()[1] for row in cells(shown).values()} == {"4/4"}


@pytest.mark.parametrize("kind", ["terminal", "plain"])
def test_a_time_budget_closes_the_search_and_says_so_once(tmp_path: Path, kind: str) -> None:
    shown = Shown(tmp_path, spec_of(), terminal=kind == "terminal", budget=100.0)
    shown.progress.setup()
    shown.finish()
    rest = duration(shown.clock.after_search(shown.simulation.search))
    shown.progress.close()
    assert shown.simulation.search.closed == "time budget"
    lines = [line for line in shown.screen if line.startswith("time budget")]
    assert lines == [f"time budget: the search ends here; final fits take about {rest}"]


def test_a_time_budget_that_cannot_be_kept_says_so_at_once(tmp_path: Path) -> None:
    shown = Shown(tmp_path, spec_of(), terminal=False, budget=4.0)
    shown.go_on(1)
    (line,) = [line for line in shown.screen if line.startswith("time budget")]
    rest = shown.clock.after_search(shown.simulation.search)
    assert line.split("about ")[1] == (
        f"{duration(rest)}, {duration(STEP + rest - 4.0)} longer than is left: only the first "
        "seeds' fits are sure"
    )


def test_the_gauges_are_left_where_the_search_ended(plain: Shown) -> None:
    def unended() -> float:
        states = plain.made.made["clip_search_trials"].values
        assert sum(states.values()) == 22
        return sum(states[tags] for tags in states if tags[-1] in ("running", "paused", "left"))

    plain.progress.setup()
    plain.go_on(1)
    for _ in range(100):  # all of the rest in less than the two seconds between updates
        plain.simulation.run(1)
        plain.progress.on_step_end(0, [])
    assert plain.simulation.search.finished
    assert unended() == 22
    plain.progress.close()
    assert unended() == 0


def test_tune_can_pickle_it(terminal: Shown) -> None:
    with contextlib.closing(terminal.progress):
        terminal.progress.setup()
        assert isinstance(pickle.loads(pickle.dumps(terminal.progress)), Progress)
