"""How long the rest of a run will take, from what its trials took so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from records import Cell
from search_spaces import Experiment
from tune.search.search import Search
from tune.search.trial_record import TrialRecord

STARTUP = 15.0
"""Seconds between search and report that are not fits: workers, files, the plot."""
REPORT = 5.0
"""Seconds of `STARTUP` that follow the last fit."""
MARGIN = 1.25
"""How much longer a final fit takes: none is stopped early, and the last ones leave slots idle."""


class TimeBudget:
    """Estimates of the time that is left, and a run's time budget if it has one.

    Args:
        experiment: with the horizons and the final seeds.
        slots: fits that run at once.
        budget: seconds from `began` to the end of the report; None for as long as it takes.
        began: when the run began, by `now`.
        test_seconds: that the test splits' features are expected to take.
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
    ) -> None:
        self._experiment, self._slots = experiment, slots
        self._budget, self._began, self._now = budget, began, now
        self.seeds = experiment.final.seeds
        self._test_seconds = test_seconds

    def out_of_time(self, search: Search) -> bool:
        """Whether the search must end now for its final fits to end in time."""
        if self._budget is None:
            return False
        spent = self._now() - self._began
        return spent + self._last_reports(search) + self.after_search(search) >= self._budget

    def allows(self, search: Search, cell: Cell) -> bool:
        """Whether another final fit of the cell ends in time, as far as is known."""
        if self._budget is None:
            return True
        spent = self._now() - self._began
        return spent + MARGIN * self._full_fit(search, cell) + REPORT < self._budget

    def _last_reports(self, search: Search) -> float:
        """Return the seconds until every running trial has come to its next report and end."""
        running = [
            self._full_fit(search, cell)
            for cell, state in search.cells.items()
            if state.under_way("running")
        ]
        return max(running, default=0.0) / self._experiment.search.evaluations

    def after_search(self, search: Search) -> float:
        """Return the seconds from the search's end to the run's."""
        fits = self.seeds * sum(self._full_fit(search, cell) for cell in search.cells)
        return STARTUP + self._test_seconds + MARGIN * fits / self._slots

    def left(self, search: Search) -> float | None:
        """Return the seconds to the end of the run; None before every method has reported."""
        remaining = 0.0
        ended = _mean_seconds(search)
        for cell, state in search.cells.items():
            running = len(state.under_way("running"))
            to_go = running / 2 + (0 if search.closed else state.unproposed)
            if not to_go:
                continue
            if cell.method not in ended and not any(_timed(search, cell.method)):
                return None
            remaining += to_go * ended.get(cell.method, self._full_fit(search, cell))
        return remaining / self._slots + self.after_search(search)

    def fits_left(
        self,
        search: Search,
        left: Mapping[Cell, int],
        spent: Mapping[Cell, float],
        failed: Mapping[Cell, int],
    ) -> float:
        """Return the seconds to the end of the run, once its final fits are being made.

        By cell, `left` counts the fits not made yet, `failed` those of them that this run does not
        try again, and `spent` has the device-seconds of the fits that are made.
        """
        seconds = 0.0
        expected = {cell: self._full_fit(search, cell) for cell in left}
        for method in {cell.method for cell in left}:
            cells = [cell for cell in left if cell.method == method]
            made = sum(
                (self.seeds - left[cell]) * expected[cell] for cell in cells if cell in spent
            )
            taken = sum(spent.get(cell, 0.0) for cell in cells)
            # As if one more had been made as expected: the first ones go on from the search's own.
            one = sum(expected[cell] for cell in cells) / len(cells)
            pace = (taken + MARGIN * one) / (made + one) if one else MARGIN
            waiting = ((left[cell] - failed.get(cell, 0)) * expected[cell] for cell in cells)
            seconds += pace * sum(waiting)
        return seconds / self._slots

    def _full_fit(self, search: Search, cell: Cell) -> float:
        """Return the device-seconds of a final fit: of the cell's best trial, to the horizon."""
        horizon = self._experiment.horizon(cell.method)
        winner = search.cells[cell].winner()
        if winner:
            trials = [search.cells[cell].trials[winner.trial]]
        else:
            trials = list(_timed(search, cell.method))
        whole = [t.seconds * max(1.0, horizon / t.samples) for t in trials]
        return sum(whole) / len(whole) if whole else 0.0


def _mean_seconds(search: Search) -> dict[str, float]:
    """Return the mean of each method's trials that are not running, over all partitions."""
    taken: dict[str, list[float]] = {}
    for cell, state in search.cells.items():
        taken.setdefault(cell.method, []).extend(
            trial.seconds
            for number, trial in state.trials.items()
            if trial.samples and state.status(number) not in ("running", "left")
        )
    return {method: sum(times) / len(times) for method, times in taken.items() if times}


def _timed(search: Search, method: str) -> Iterator[TrialRecord]:
    """Yield the method's trials that have reported, of all partitions."""
    for cell, state in search.cells.items():
        if cell.method == method:
            yield from (trial for trial in state.trials.values() if trial.samples)
