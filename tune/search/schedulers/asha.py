"""ASHA: asynchronous successive halving by promotion.

Algorithm 2 of Li et al. 2020, arXiv:1810.05934. It is written by hand, as Ray's ASHA never pauses
a trial: it stops whoever is not among the best of those that came before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from search_spaces.schedulers import AshaConfig
from tune.search.schedulers.base import Scheduler


@dataclass
class Rung:
    """The scores of the trials that reached a milestone, and who went on from there."""

    milestone: int
    records: dict[int, float] = field(default_factory=dict)  # trial to score
    promoted: set[int] = field(default_factory=set)

    @property
    def order(self) -> list[int]:
        """Its trials, the best first; of two that tie, the earlier one."""
        return sorted(self.records, key=lambda trial: (-self.records[trial], trial))

    def promotable(self, places: int, waiting: Collection[int]) -> list[int]:
        """List those of `waiting` among the best `places`, as far as places are free."""
        best = [trial for trial in self.order[:places] if trial in waiting]
        return best[: max(0, places - len(self.promoted))]


class Asha(Scheduler):
    """Successive halving by promotion.

    A trial that reaches a rung waits there until it is among the best 1/eta of the rung's records
    and has not been promoted yet. Unlike in Algorithm 2 no more than 1/eta of the records are
    ever promoted, so that scores that rise with time don't let everybody through. One place is
    always left for the last trial to come, so that the best one is promoted whenever it comes.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._eta: int = self.settings.reduction_factor
        self._rungs = [Rung(milestone) for milestone in self.milestones]
        self._started: set[int] = set()
        self._climbing: dict[int, int] = {}  # running trial to the rung it comes to next
        self._waiting: dict[int, int] = {}  # waiting trial to the rung it waits at

    @staticmethod
    def rungs(settings: AshaConfig, horizon: int, images: int) -> tuple[int, ...]:
        """Return the horizon, and the milestones down from it by the reduction factor.

        Rungs at which trials have not yet seen their images `epochs` times are left out, but for
        the one before the horizon: at such a rung the trials that learn slowest look best, as they
        have lost least of what they started with (docs/search.md).
        """
        found = {round(horizon / settings.reduction_factor**i) for i in range(settings.rungs)}
        rungs = sorted(found - {0})
        earliest = min(settings.epochs * images, *rungs[-2:])
        return tuple(rung for rung in rungs if rung >= earliest)

    def start(self, trial: int, judged_from: float = 0) -> None:
        """Promote a trial that waits; let another climb to the first rung that judges it."""
        if trial in self._waiting:
            k = self._waiting.pop(trial)
            self._rungs[k].promoted.add(trial)
            self._climbing[trial] = k + 1
        elif trial not in self._started:
            self._started.add(trial)
            judging = [k for k, rung in enumerate(self._rungs) if rung.milestone >= judged_from]
            if judging:
                self._climbing[trial] = judging[0]

    def record(self, milestone: int, trial: int, score: float) -> None:
        """Note a score at the rung that the trial was climbing to; there it waits."""
        k = self._climbing.get(trial)
        if k is None or milestone != self._rungs[k].milestone:
            return
        self._rungs[k].records[trial] = score
        if k < len(self._rungs) - 1:
            del self._climbing[trial]
            self._waiting[trial] = k

    def waits(self, trial: int) -> bool:
        """Whether the trial waits at a rung."""
        return trial in self._waiting

    def admits(self, trial: int) -> bool:
        """Whether a trial that waits may be promoted now."""
        return trial in self._promotable(self._waiting[trial])

    def end(self, trial: int) -> None:
        """Forget a trial's place; its records and its promotions stay."""
        self._climbing.pop(trial, None)
        self._waiting.pop(trial, None)

    def promotable(self) -> int | None:
        """Return the waiting trial to promote next: of the highest rung, and there the best."""
        return next((trial for _, trial in self.candidates()), None)

    def candidates(self) -> Iterator[tuple[int, int]]:
        """Yield the waiting trials that may go on, as (milestone, trial): highest rung first."""
        for k in reversed(range(len(self._rungs) - 1)):
            yield from ((self._rungs[k].milestone, trial) for trial in self._promotable(k))

    def hopeless(self) -> list[int]:
        """Return the waiting trials that will not be among the promoted when their rung is full."""
        found = []
        for k, rung in enumerate(self._rungs[:-1]):
            waiting = self._waiting_at(k)
            places = math.ceil(self._at_most(k) / self._eta)
            found += sorted(waiting - set(rung.promotable(places, waiting)))
        return found

    def _promotable(self, k: int) -> list[int]:
        share = len(self._rungs[k].records) / self._eta
        places = math.floor(share) if self._coming(k) else math.ceil(share)
        return self._rungs[k].promotable(places, self._waiting_at(k))

    def _waiting_at(self, k: int) -> set[int]:
        return {trial for trial, rung in self._waiting.items() if rung == k}

    def _coming(self, k: int) -> int:
        """Count the trials that could still reach rung `k`."""
        climbing = sum(rung <= k for rung in self._climbing.values())
        waiting = sum(rung < k for rung in self._waiting.values())
        return self._to_start + climbing + waiting

    @property
    def _to_start(self) -> int:
        return len(self.trials - self._started)

    def _at_most(self, k: int) -> int:
        """Count the records that rung `k` could have when it is full."""
        here = self._rungs[k]
        if k == 0:
            return len(here.records) + self._coming(0)
        below = self._rungs[k - 1]
        on_the_way = sum(rung == k for rung in self._climbing.values())
        if self.skips:
            on_the_way += self._to_start
        to_promote = math.ceil(self._at_most(k - 1) / self._eta) - len(below.promoted)
        return len(here.records) + min(self._coming(k), on_the_way + max(0, to_promote))
