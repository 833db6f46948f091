"""A run in numbers, for the Ray dashboard and Prometheus.

`Gauges` hands what functions of the search and the clock compute to `ray.util.metrics`, which
exports it as `ray_clip_search_...` on the metrics port of the driver's machine.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from ray.util.metrics import Gauge

from partitions import named
from records import Cell, End
from tune.search.cell_search import CellSearch
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

INTERVAL = 2.0  # seconds between two updates, at least
REPEAT = 5.0  # seconds: Ray drops a gauge that was not set for two of its reports, 20 s
WINDOW = 60.0  # seconds that a rate is taken over: trials report seldom, and much at once
PREFIX = "clip_search_"
RUN = "run"
"""A tag of every metric: the experiment's name. A cluster may run several."""

CELL_TAGS = ("partition", "method")
ENDED: tuple[End, ...] = get_args(End)
STATES = ("running", "paused", *ENDED, "left")
"""Of trials, in the journal's words; `left` are those not proposed yet."""


@dataclass(frozen=True)
class Metric:
    """One gauge: its name without `clip_search_`, and its tags, all but `run`."""

    name: str
    description: str
    tags: tuple[str, ...] = ()


TRIALS = Metric("trials", "Trials by state", (*CELL_TAGS, "state"))
BEST = Metric("best_val_accuracy", "Best validation accuracy so far, 0 to 1", CELL_TAGS)
SAMPLES_PER_SECOND = Metric(
    "samples_per_second", "Training samples a second, all slots, over the last minute", CELL_TAGS
)
DEVICE_SECONDS = Metric(
    "device_seconds",
    "Seconds that fits held their slots; stage: search, final",
    (*CELL_TAGS, "stage"),
)
FINAL_FITS_LEFT = Metric("final_fits_left", "Final fits not made yet", CELL_TAGS)
SECONDS_LEFT = Metric("seconds_left", "Expected seconds to the end of the run")
IMAGES_DONE = Metric("images_done", "Images the feature stage has encoded", ("splits",))
IMAGES_WANTED = Metric("images_wanted", "Images the feature stage is to encode", ("splits",))
IMAGES_PER_SECOND = Metric(
    "images_per_second", "Images encoded a second, over the last minute", ("splits",)
)
METRICS = (
    *(TRIALS, BEST, SAMPLES_PER_SECOND, DEVICE_SECONDS, FINAL_FITS_LEFT, SECONDS_LEFT),
    *(IMAGES_DONE, IMAGES_WANTED, IMAGES_PER_SECOND),
)

Readings = Mapping[tuple[Metric, tuple[str, ...]], float]
"""Values by metric and by the values of its tags."""


class Rate:
    """How fast a total grows, over a window of seconds; 0 in the first `after` seconds.

    What was there at the first look does not count: a run that is resumed did it before.
    """

    def __init__(self, window: float = WINDOW, after: float = 0.0) -> None:
        self._window, self._after = window, after
        self._seen: deque[tuple[float, float]] = deque()

    def at(self, now: float, total: float) -> float:
        """Look at the total; return its growth a second. One that has fallen begins anew."""
        if self._seen and total < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, total))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()
        since, before = self._seen[0]
        return (total - before) / (now - since) if now > since + self._after else 0.0


def labels(cell: Cell) -> tuple[str, str]:
    """Return the values of a cell's tags."""
    return named(cell.partition), cell.method


def states_of(cell: CellSearch) -> Counter[str]:
    """Count a cell's trials by state, all of `STATES`."""
    counts = Counter(dict.fromkeys(STATES, 0))
    counts.update(cell.status(number) for number in cell.trials)
    counts["left"] = cell.unproposed
    return counts


def states(search: Search) -> Counter[str]:
    """Count all trials by state."""
    total: Counter[str] = Counter()
    for cell in search.cells.values():
        total.update(states_of(cell))
    return total


def search_readings(search: Search, clock: TimeBudget) -> Readings:
    """Say where the search stands."""
    readings: dict[tuple[Metric, tuple[str, ...]], float] = {}
    for cell, state in search.cells.items():
        for name, count in states_of(state).items():
            readings[TRIALS, (*labels(cell), name)] = count
        spent = sum(trial.seconds for trial in state.trials.values())
        readings[DEVICE_SECONDS, (*labels(cell), "search")] = spent
        readings[FINAL_FITS_LEFT, labels(cell)] = state.seeds
        if winner := state.winner():
            readings[BEST, labels(cell)] = winner.val_accuracy
    left = clock.left(search)
    return readings if left is None else {**readings, (SECONDS_LEFT, ()): left}


def sample_readings(search: Search, rates: dict[Cell, Rate], now: float) -> Readings:
    """Measure training samples a second by cell; `rates` gets those of cells not seen before."""
    return {
        (SAMPLES_PER_SECOND, labels(cell)): rates.setdefault(cell, Rate()).at(
            now, sum(trial.samples for trial in state.trials.values())
        )
        for cell, state in search.cells.items()
    }


def feature_readings(splits: str, done: int, wanted: int, rate: float) -> Readings:
    """Say where the feature stage stands."""
    tags = (splits,)
    return {
        (IMAGES_DONE, tags): done,
        (IMAGES_WANTED, tags): wanted,
        (IMAGES_PER_SECOND, tags): rate,
    }


def final_readings(
    fits_left: Mapping[Cell, int], spent: Mapping[Cell, float], seconds_left: float
) -> Readings:
    """Say where the final fits stand: how many are left, and device-seconds spent, by cell."""
    return {
        **{(FINAL_FITS_LEFT, labels(cell)): count for cell, count in fits_left.items()},
        **{(DEVICE_SECONDS, (*labels(cell), "final")): seconds for cell, seconds in spent.items()},
        (SECONDS_LEFT, ()): seconds_left,
    }


class Gauges:
    """Sets Ray's gauges to the latest readings.

    A thread sets them again while nothing changes: Ray forgets a gauge in 20 s, and a final fit
    may take an hour. Setting one takes microseconds.
    """

    def __init__(
        self,
        run: str,
        gauge: Callable[[str, str, tuple[str, ...]], Any] = Gauge,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._now = run, now
        self._gauges = {m: gauge(PREFIX + m.name, m.description, (RUN, *m.tags)) for m in METRICS}
        self._latest: dict[tuple[Metric, tuple[str, ...]], float] = {}
        self._updated: float | None = None
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="gauges", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def update(self, readings: Callable[[], Readings], last: bool = False) -> None:
        """Compute readings, if the last are two seconds old or these are a stage's `last`."""
        now = self._now()
        if not last and self._updated is not None and now - self._updated < INTERVAL:
            return
        self._updated = now
        new = readings()
        with self._lock:
            self._latest.update(new)
            self._set(new)

    def forget(self, *metrics: Metric) -> None:
        """Stop exporting some metrics, whose stage is over."""
        with self._lock:
            self._latest = {key: x for key, x in self._latest.items() if key[0] not in metrics}

    def _set(self, readings: Readings) -> None:
        for (metric, values), value in readings.items():
            tags = dict(zip((RUN, *metric.tags), (self._run, *values), strict=True))
            self._gauges[metric].set(value, tags)

    def _repeat(self) -> None:
        while not self._closed.wait(REPEAT):
            with self._lock:
                self._set(self._latest)
