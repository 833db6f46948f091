"""The search as it goes: a live table, or plain lines without a terminal."""

from __future__ import annotations

from typing import Any

from ray import tune as ray_tune
from rich.console import Group as Stack
from rich.live import Live
from rich.table import Table
from rich.text import Text

from partitions import titled
from records import Cell
from terminal import fits
from tune.monitor.metrics import (
    ENDED,
    SAMPLES_PER_SECOND,
    Rate,
    Readings,
    sample_readings,
    search_readings,
    states,
    states_of,
)
from tune.monitor.watch import PLAIN_INTERVAL, Every, Watch, duration
from tune.search.cell_search import CellSearch
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

LIVE_INTERVAL = 0.5  # seconds between two drawings of the table
CHECKED = 1.0  # seconds between two looks at the time budget, which go through all trials


class Progress(ray_tune.Callback):
    """Shows the search on a console, and keeps it to its time budget."""

    def __init__(self, search: Search, clock: TimeBudget, watch: Watch) -> None:
        self._search, self._clock, self._watch = search, clock, watch
        # Drawn at ticks alone: between them nothing changes that a thread could draw.
        self._live = Live(console=watch.console, auto_refresh=False, transient=True)
        self._terminal = watch.console.is_terminal
        self._due = Every(LIVE_INTERVAL if self._terminal else PLAIN_INTERVAL, watch.now)
        self._checked = Every(CHECKED, watch.now)
        self._rates: dict[Cell, Rate] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; nobody reads that

    def setup(self, *_: Any, **__: Any) -> None:
        """Begin to show the search; Tune calls this."""
        if self._terminal:
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was, and the gauges where the search ended."""
        self._live.stop()
        gauges = self._watch.gauges
        gauges.update(lambda: search_readings(self._search, self._clock), last=True)
        gauges.forget(SAMPLES_PER_SECOND)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Show what has changed; Tune calls this after each report, and several times a second."""
        due = not self._search.closed and self._checked.passed()
        if due and self._clock.out_of_time(self._search):
            self._search.close("time budget")
            rest = duration(self._clock.after_search(self._search))
            line = f"time budget: the search ends here; final fits take about {rest}"
            if lacking := self._clock.lacks(self._search):
                line += f", {duration(lacking)} longer than is left"
                line += ": only the first seeds' fits are sure"
            self._watch.print(line)
        if self._due.passed():
            if self._terminal:
                self._live.update(self._table(), refresh=True)
            else:
                self._watch.print(self._line())
        self._watch.gauges.update(self._readings)

    def _readings(self) -> Readings:
        speeds = sample_readings(self._search, self._rates, self._watch.now())
        return {**search_readings(self._search, self._clock), **speeds}

    def _table(self) -> Stack | Text:
        cells = self._search.cells
        methods = list(dict.fromkeys(cell.method for cell in cells))
        table = Table("partition", *methods, box=None, header_style="bold", pad_edge=False)
        for partition in dict.fromkeys(cell.partition for cell in cells):
            texts = [_cell(s) for cell, s in cells.items() if cell.partition == partition]
            table.add_row(titled(partition), *texts)
        line = Text(self._line(), style="dim")
        return Stack(table, line) if fits(self._watch.console, table) else line

    def _line(self) -> str:
        statuses = states(self._search)
        done = sum(statuses[state] for state in ENDED)
        if self._search.closed:
            return f"search: {done} trials done, {statuses['running']} about to end"
        left = self._clock.left(self._search)
        to_go = "time to go not known yet" if left is None else f"about {duration(left)} to go"
        return (
            f"search: {done} trials done ({statuses['stopped']} stopped early), "
            f"{statuses['running']} running, {statuses['paused']} paused, "
            f"{statuses['left']} left; {to_go}"
        )


def _cell(search: CellSearch) -> Text:
    statuses = states_of(search)
    ended = sum(statuses[state] for state in ENDED)
    winner = search.winner()
    best = f"{100 * winner.val_accuracy:5.1f}%" if winner else "    –"
    running = f" +{statuses['running']}" if statuses["running"] else ""
    stopped = f" ({statuses['stopped']}✂)" if statuses["stopped"] else ""
    style = "green" if search.finished else ""
    return Text(f"{best} {ended}/{search.planned}{running}{stopped}", style=style)
