"""Hyperband: brackets of successive halving that begin at different rungs.

Li et al. 2018, arXiv:1603.06560.
"""

from __future__ import annotations

import math
from typing import Any

from tune.search.schedulers.asha import Asha
from tune.search.schedulers.base import Scheduler


class Hyperband(Scheduler):
    """One bracket of ASHA for each first rung; brackets judge their own trials alone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        count, eta = len(self.milestones), self.settings.reduction_factor
        # Trials per bracket of Algorithm 1, in no unit: the bracket of rung i has
        # s = s_max - i halvings before it, and s_max + 1 is `count`.
        self._weights = [math.ceil(count / (s + 1) * eta**s) for s in reversed(range(count))]
        self._assigned: list[int] = []  # the brackets of the trials, by number
        members = [[n for n in self.trials if self.bracket_of(n) == i] for i in range(count)]
        self.brackets = [
            Asha(self.settings, self.milestones[i:], members[i], self.skips) for i in range(count)
        ]

    rungs = staticmethod(Asha.rungs)

    def bracket_of(self, trial: int) -> int:
        """Return a trial's bracket, by its number alone, so that a larger budget moves no trial.

        Each next trial goes to the bracket that lags most, so that all brackets have their shares
        to within a trial at any number.
        """
        total = sum(self._weights)
        while len(self._assigned) <= trial:
            now = len(self._assigned) + 1
            lags = [w * now / total - self._assigned.count(i) for i, w in enumerate(self._weights)]
            self._assigned.append(lags.index(max(lags)))
        return self._assigned[trial]

    def start(self, trial: int, judged_from: float = 0) -> None:
        """Start the trial in its bracket."""
        self._of(trial).start(trial, judged_from)

    def record(self, milestone: int, trial: int, score: float) -> None:
        """Record the score in the trial's bracket."""
        self._of(trial).record(milestone, trial, score)

    def waits(self, trial: int) -> bool:
        """Whether the trial waits at a rung of its bracket."""
        return self._of(trial).waits(trial)

    def admits(self, trial: int) -> bool:
        """Whether a trial that waits may be promoted in its bracket."""
        return self._of(trial).admits(trial)

    def end(self, trial: int) -> None:
        """End the trial in its bracket."""
        self._of(trial).end(trial)

    def promotable(self) -> int | None:
        """Return the waiting trial to promote next: of the highest rung of all brackets."""
        found = [pair for bracket in self.brackets for pair in bracket.candidates()]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def hopeless(self) -> list[int]:
        """Return the waiting trials that their brackets will not promote."""
        return [trial for bracket in self.brackets for trial in bracket.hopeless()]

    def _of(self, trial: int) -> Asha:
        return self.brackets[self.bracket_of(trial)]
