"""The search as it goes: a live table, or plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray import tune as ray_tune
from ray.tune.experiment import Trial
from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.table import Table
from rich.text import Text

from records.cell import Cell
from tune.monitor.metrics import (
    ENDED,
    SAMPLES_PER_SECOND,
    Gauges,
    Rate,
    Readings,
    sample_readings,
    search_readings,
    states,
    states_of,
)
from tune.search.cell_search import CellSearch
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

PLAIN_INTERVAL = 30.0  # seconds between lines where there is no terminal
LIVE_INTERVAL = 0.5


class Progress(ray_tune.Callback):
    """Shows the search, and keeps it to its time budget.

    Args:
        search: what is shown.
        clock: tells how long things take.
        console: where to.
        gauges: kept up to date.
        now: a monotonic clock.
    """

    def __init__(
        self,
        search: Search,
        clock: TimeBudget,
        console: Console,
        gauges: Gauges,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._clock, self._console = search, clock, console
        # Drawn at ticks alone: between them nothing changes that a thread could draw.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._gauges, self._now = gauges, now
        self._printed = self._drawn = now()
        self._rates: dict[Cell, Rate] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; nobody reads that

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        if self._console.is_terminal:
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was, and the gauges where the search ended."""
        self._live.stop()
        self._gauges.update(lambda: search_readings(self._search, self._clock), last=True)
        self._gauges.forget(SAMPLES_PER_SECOND)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        self._tick()

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._tick()

    def _tick(self) -> None:
        if not self._search.closed and self._clock.out_of_time(self._search):
            self._search.close("time budget")
            rest = duration(self._clock.after_search(self._search))
            line = f"time budget: the search ends here; final fits take about {rest}"
            self._console.print(line, highlight=False)
        now = self._now()
        if self._console.is_terminal:
            if now - self._drawn >= LIVE_INTERVAL:
                self._drawn = now
                self._live.update(self._table(), refresh=True)
        elif now - self._printed >= PLAIN_INTERVAL:
            self._printed = now
            self._console.print(self._line(), highlight=False, soft_wrap=True)
        self._gauges.update(self._readings)

    def _readings(self) -> Readings:
        speeds = sample_readings(self._search, self._rates, self._now())
        return {**search_readings(self._search, self._clock), **speeds}

    def _table(self) -> Stack:
        cells = self._search.cells
        methods = list(dict.fromkeys(cell.method for cell in cells))
        table = Table("partition", *methods, box=None, header_style="bold", pad_edge=False)
        for partition in dict.fromkeys(cell.partition for cell in cells):
            texts = [_cell(s) for cell, s in cells.items() if cell.partition == partition]
            table.add_row(f"{partition:g}%", *texts)
        return Stack(table, Text(self._line(), style="dim"))

    def _line(self) -> str:
        statuses = states(self._search)
        done = sum(statuses[state] for state in ENDED)
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


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
