"""The run as it goes: a live table, plain lines without a terminal, gauges for the dashboard."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.util.metrics import Gauge
from rich.console import Console
from rich.console import Group as Stack
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tune.clock import Clock
from tune.group_search import GroupSearch
from tune.search import Search

PLAIN_INTERVAL = 30.0  # seconds between lines where there is no terminal
GAUGE_INTERVAL = 2.0
LIVE_INTERVAL = 0.5


class Progress(tune.Callback):
    """Shows the search, and keeps it to its time budget.

    Args:
        search: what is shown.
        clock: tells how long things take.
        console: where to.
    """

    def __init__(self, search: Search, clock: Clock, console: Console) -> None:
        self._search, self._clock, self._console = search, clock, console
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._printed = self._gauged = self._drawn = time.monotonic()
        self._seen = 0
        self._gauges: _Gauges | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; nobody reads that

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        self._gauges = _Gauges()
        if self._console.is_terminal:
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        self._tick()

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        self._tick()

    def _tick(self) -> None:
        if self._clock.out_of_time(self._search):
            self._search.close("time budget")
        now = time.monotonic()
        if self._console.is_terminal:
            if now - self._drawn >= LIVE_INTERVAL:
                self._drawn = now
                self._live.update(self._table())
        elif now - self._printed >= PLAIN_INTERVAL:
            self._printed = now
            self._console.print(self._line(), highlight=False, soft_wrap=True)
        if self._gauges and now - self._gauged >= GAUGE_INTERVAL:
            samples = sum(
                t.samples for s in self._search.groups.values() for t in s.trials.values()
            )
            self._gauges.set(self._search, (samples - self._seen) / (now - self._gauged))
            self._seen, self._gauged = samples, now

    def _table(self) -> Stack:
        groups = self._search.groups
        methods = list(dict.fromkeys(group.method for group in groups))
        table = Table("partition", *methods, box=None, header_style="bold")
        for partition in dict.fromkeys(group.partition for group in groups):
            cells = [
                _cell(search) for group, search in groups.items() if group.partition == partition
            ]
            table.add_row(f"{partition:g}%", *cells)
        return Stack(table, Text(self._line(), style="dim"))

    def _line(self) -> str:
        statuses = states(self._search)
        done = sum(n for state, n in statuses.items() if state not in ("running", "paused", "left"))
        left = self._clock.left(self._search)
        return (
            f"search: {done} trials done ({statuses['stopped']} stopped early), "
            f"{statuses['running']} running, {statuses['paused']} paused, "
            f"{statuses['left']} left; about {duration(left)} to go"
        )


class _Gauges:
    """What the Ray dashboard's metrics show of a run."""

    def __init__(self) -> None:
        self._trials = Gauge("clip_search_trials", "Trials by state", ("state",))
        self._best = Gauge(
            "clip_search_best_val_accuracy", "Best validation accuracy", ("partition", "method")
        )
        self._rate = Gauge("clip_search_samples_per_second", "Training samples a second, all slots")

    def set(self, search: Search, rate: float) -> None:
        for state, count in states(search).items():
            self._trials.set(count, {"state": state})
        for group, winner in search.winners().items():
            tags = {"partition": f"{group.partition:g}", "method": group.method}
            self._best.set(winner.val_accuracy, tags)
        self._rate.set(rate)


def states(search: Search) -> Mapping[str, int]:
    """Trials by state; `left` are those not proposed yet."""
    names = ("completed", "stopped", "diverged", "failed", "cut", "paused", "running")
    counts = Counter(dict.fromkeys(names, 0))
    for group in search.groups.values():
        counts.update(trial.status for trial in group.trials.values())
        counts["running"] -= len(group.orphans)
    counts["left"] = search.remaining
    return counts


def _cell(search: GroupSearch) -> Text:
    statuses = Counter(trial.status for trial in search.trials.values())
    statuses["running"] -= len(search.orphans)
    ended = sum(n for status, n in statuses.items() if status not in ("running", "paused"))
    winner = search.winner()
    best = f"{100 * winner.val_accuracy:5.1f}%" if winner else "    –"
    running = f" +{statuses['running']}" if statuses["running"] else ""
    stopped = f" ({statuses['stopped']}✂)" if statuses["stopped"] else ""
    style = "green" if search.finished else ""
    return Text(f"{best} {ended}/{search.budget}{running}{stopped}", style=style)


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
