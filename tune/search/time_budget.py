"""How long the rest of a run will take, from what its trials took so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from partitions import Partition
from records import Cell
from search_spaces import Experiment
from tune.search.expected_samples import ExpectedSamples
from tune.search.pace import JUDGED, Pace, Work, pace_of, whole_trial
from tune.search.search import Search

STARTUP = 10.0
"""Seconds between search and report that are not fits: workers, files, the plot."""
REPORT = 3.0
"""Seconds of `STARTUP` that follow the last fit."""
AFTER = 0.1
"""What follows a final fit's training, in full fits, beside its pass of the test images."""
MARGIN = 1.25
"""How much longer final fits may take than expected, where a time budget is to be kept."""
RECENT = 8
"""The last final fits of a method say how fast it is now: the load of machines changes."""
EARLY = 0.5
"""The share of a budget in which first reports alone do not say what final fits take."""
FIRST = 0.25
"""What counts then of the time that they say: a process is slow at whatever it does first."""
NEARLY = 0.9
"""The most of a final fit that is taken to be behind it while it runs."""

Paces = Mapping[str, Pace | None]
"""Each method's, measured once for all of its cells."""


class _Costs(NamedTuple):
    """The device-seconds of a cell's final fits.

    The first goes on from where the winner's trial stands.
    """

    first: float
    further: float


class TimeBudget:
    """Estimates of the time that is left, and a run's time budget if it has one.

    Args:
        experiment: with the horizons and the final seeds.
        slots: fits that run at once.
        budget: seconds from `began` to the end of the report; None for as long as it takes.
        began: when the run began, by `now`.
        test_seconds: that the test splits' features are expected to take.
        judges: validation images that the search judges each partition by.
        validation: those that final fits are judged by; the same if not given.
        made: final fits that are there already, by cell and its winner's trial.
        tested: test images that each final fit is scored on.
        now: a monotonic clock.
    """

    def __init__(
        self,
        experiment: Experiment,
        slots: int,
        budget: float | None,
        began: float,
        test_seconds: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        judges: Mapping[Partition, int] = MappingProxyType({}),
        validation: Mapping[Partition, int] | None = None,
        made: Mapping[tuple[Cell, int], int] = MappingProxyType({}),
        tested: int = 0,
    ) -> None:
        self._work, self._made, self._tested = Work(judges), made, tested
        self._final_work = Work(judges if validation is None else validation)
        self._experiment, self._slots = experiment, slots
        self._budget, self._began, self._now = budget, began, now
        self._test_seconds = test_seconds
        self._samples = ExpectedSamples(experiment.search.transfer)
        self._fits_began, self._fits_took = began, 0.0
        self._recent: dict[tuple[str, bool], deque[tuple[float, float]]] = {}

    def out_of_time(self, search: Search) -> bool:
        """Whether the search must end now for its final fits to end in time.

        As long as some cell has no trial, these are the first seeds' alone: a table without holes
        comes before narrow intervals.
        """
        if self._budget is None:
            return False
        firsts = not all(state.trials for state in search.cells.values())
        spent, paces = self._now() - self._began, self._paces(search)
        sure = all(pace.sure for pace in paces.values() if pace)
        margin = MARGIN if sure or spent >= EARLY * self._budget else FIRST
        rest = self._after_search(search, paces, margin, firsts)
        return spent + self._last_reports(search, paces) + rest >= self._budget

    def _paces(self, search: Search) -> Paces:
        return {m: pace_of(search, m, self._work) for m in {cell.method for cell in search.cells}}

    def lacks(self, search: Search) -> float:
        """Return the seconds by which all final fits, begun now, would miss the budget, or 0."""
        if self._budget is None:
            return 0.0
        spent = self._now() - self._began
        return max(0.0, spent + self.after_search(search) - self._budget)

    def allows(self, search: Search, cell: Cell) -> bool:
        """Whether another final fit of the cell ends in time, as far as is known."""
        if self._budget is None:
            return True
        spent = self._now() - self._began
        fit = self._adjusted(self._costs(search, cell, self._paces(search)).further, cell, 1)
        return spent + MARGIN * fit + REPORT < self._budget

    def over(self) -> bool:
        """Whether there is time for the report alone."""
        return self.remaining() == 0.0

    def remaining(self) -> float | None:
        """Return the seconds until there is time for the report alone; None without a budget."""
        if self._budget is None:
            return None
        return max(0.0, self._began + self._budget - REPORT - self._now())

    def _last_reports(self, search: Search, paces: Paces) -> float:
        """Return the seconds until every running trial has come to its next report and end."""
        running = [
            self._full_fit(search, cell, paces)
            for cell, state in search.cells.items()
            if state.under_way("running")
        ]
        return max(running, default=0.0) / self._experiment.search.evaluations

    def after_search(self, search: Search) -> float:
        """Return the seconds from the search's end to the run's."""
        return self._after_search(search, self._paces(search))

    def _after_search(
        self, search: Search, paces: Paces, margin: float = 1.0, firsts: bool = False
    ) -> float:
        """Return the same, fits taking `margin` as long; with `firsts`, each cell has one."""
        fits = []
        for cell in search.cells:
            costs = self._fits(search, cell, paces)[: 1 if firsts else None]
            fits += costs[self._there(search, cell) :]
        wall = max(sum(fits) / self._slots, max(fits, default=0.0))
        return STARTUP + self._test_seconds + margin * wall

    def _there(self, search: Search, cell: Cell) -> int:
        """Count a cell's final fits that are made, of the winner that it has now."""
        winner = search.cells[cell].winner()
        return self._made.get((cell, winner.trial), 0) if winner else 0

    def left(self, search: Search) -> float | None:
        """Return the seconds to the end of the run; None before every method has reported."""
        paces, seconds = self._paces(search), 0.0
        if search.closed:
            return self._last_reports(search, paces) + self._after_search(search, paces)
        for cell, state in search.cells.items():
            if not (samples := self._samples.left(state)):
                continue
            if (pace := paces[cell.method]) is None:
                return None
            work = samples * self._work(state, state.horizon) / state.horizon
            seconds += pace.rate * work + pace.start * state.unproposed
        return seconds / self._slots + self._after_search(search, paces)

    def begin_fits(self) -> None:
        """Note that the final fits begin now."""
        self._fits_began = self._now()

    def fit_ended(self, search: Search, cell: Cell, made: int, seconds: float) -> None:
        """Note the device-seconds of a final fit, made when `made` of its cell were there."""
        self._fits_took += seconds
        longest = max(RECENT, 2 * self._slots)
        recent = self._recent.setdefault((cell.method, made > 0), deque(maxlen=longest))
        costs = self._fits(search, cell, self._paces(search))
        recent.append((costs[min(made, len(costs) - 1)], seconds))

    def fits_left(
        self,
        search: Search,
        left: Mapping[Cell, int],
        failed: Mapping[Cell, int] = MappingProxyType({}),
    ) -> float:
        """Return the seconds to the end of the run, once its final fits are being made.

        By cell, `left` counts the fits not made yet, and `failed` those of them that this run does
        not try again.
        """
        to_come, paces = [], self._paces(search)
        for cell, count in left.items():
            costs = self._fits(search, cell, paces)
            for made in range(len(costs) - count + failed.get(cell, 0), len(costs)):
                to_come.append(self._adjusted(costs[made], cell, made))
        if not to_come:
            return REPORT
        at_once = min(self._slots, len(to_come))
        # Slots have been held for longer than the fits that ended took: by those that run now.
        running = at_once * (self._now() - self._fits_began) - self._fits_took
        most = NEARLY * at_once * sum(to_come) / len(to_come)
        return REPORT + (sum(to_come) - min(max(0.0, running), most)) / at_once

    def _adjusted(self, cost: float, cell: Cell, made: int) -> float:
        """Return the device-seconds of a final fit whose expected `cost` others correct.

        `made` fits of its cell come before it: a first one may train little, and says nothing of
        the others.
        """
        recent = self._recent.get((cell.method, made > 0), ())
        # As if one more had taken what is expected: one alone tells little.
        expected = cost + sum(each for each, _ in recent)
        taken = cost + sum(seconds for _, seconds in recent)
        return cost * taken / expected if expected else 0.0

    def _fits(self, search: Search, cell: Cell, paces: Paces) -> list[float]:
        """Return the device-seconds of a cell's final fits, by seed."""
        first, further = self._costs(search, cell, paces)
        return [first, *[further] * (search.cells[cell].seeds - 1)]

    def _costs(self, search: Search, cell: Cell, paces: Paces) -> _Costs:
        state = search.cells[cell]
        full, work = self._full_fit(search, cell, paces), self._work(state, state.horizon)
        whole = full * self._final_work(state, state.horizon) / work
        after = AFTER * whole
        if state.takes_steps:
            after += full * JUDGED * self._tested / work
        trained = 0.0
        if winner := state.winner():
            trained = min(1.0, state.trials[winner.trial].samples / state.horizon)
        return _Costs(whole * (1 - trained) + after, whole + after)

    def _full_fit(self, search: Search, cell: Cell, paces: Paces) -> float:
        """Return the seconds of the cell's best trial, to the horizon; 0 if nothing is known."""
        state, pace = search.cells[cell], paces[cell.method]
        if pace is None:
            return 0.0
        if winner := state.winner():
            return whole_trial(state, state.trials[winner.trial], pace, self._work)
        return pace.start + pace.rate * self._work(state, state.horizon)
