"""Which trials of a cell go on: successive halving by promotion, alone or in brackets.

ASHA is Algorithm 2 of Li et al. 2020 (arXiv:1810.05934), the brackets are Hyperband's (Li et al.
2018, arXiv:1603.06560). Nothing here knows what a trial is but its number and its scores.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from search_spaces.schema import SearchConfig


def milestones(
    horizon: int, search: SearchConfig, trained: bool = True, images: int = 0
) -> tuple[int, ...]:
    """Samples at which a trial is evaluated: its rungs, and evenly spaced points between.

    A head that is solved for, not `trained`, is evaluated once. `images`: as in
    `rung_milestones`.
    """
    if not trained:
        return (horizon,)
    points = {round(horizon * i / search.evaluations) for i in range(1, search.evaluations + 1)}
    return tuple(sorted({*points, *rung_milestones(horizon, search, images)} - {0}))


def rung_milestones(horizon: int, search: SearchConfig, images: int = 0) -> tuple[int, ...]:
    """Samples of each rung: the horizon, and down from it by the reduction factor.

    Of a cell with so many training `images`, only the rungs at which trials have seen them
    `asha.epochs` times, or the one before the horizon if there is no such. Before, those that
    learn slowest look best, as they have lost least of what they started with (docs/search.md).
    """
    if search.scheduler == "none":
        return (horizon,)
    asha = search.asha
    found = {round(horizon / asha.reduction_factor**i) for i in range(asha.rungs)}
    rungs = sorted(found - {0})
    earliest = min(asha.epochs * images, *rungs[-2:])
    return tuple(rung for rung in rungs if rung >= earliest)


@dataclass
class Rung:
    """The scores of the trials that reached a milestone, and who went on from there."""

    milestone: int
    records: dict[int, float] = field(default_factory=dict)  # trial to score
    promoted: set[int] = field(default_factory=set)

    @property
    def order(self) -> list[int]:
        """Its trials, the best first; of two that tie, the earlier."""
        return sorted(self.records, key=lambda trial: (-self.records[trial], trial))

    def promotable(self, places: int, waiting: Collection[int]) -> list[int]:
        """Those of `waiting` among the best `places` of the rung, as far as places are free."""
        best = [trial for trial in self.order[:places] if trial in waiting]
        return best[: max(0, places - len(self.promoted))]


class Bracket:
    """Successive halving by promotion.

    A trial that reaches a rung waits there until it is among the best 1/eta of the rung's records
    and has not been promoted yet. Unlike in Algorithm 2 no more than 1/eta of the records are
    ever promoted, so that scores that rise with time don't let everybody through; one place is
    always left for the last to come, so the best trial of a rung is promoted whenever it comes.

    Args:
        milestones: of the rungs, in samples; the last is the horizon, where trials end.
        eta: the reduction factor.
        members: the trials that the budget gives this bracket.
        skips: whether a trial may begin beyond the first rung.
    """

    def __init__(
        self, milestones: Sequence[int], eta: int, members: Collection[int], skips: bool
    ) -> None:
        self.rungs = [Rung(milestone) for milestone in milestones]
        self._eta, self._members, self._skips = eta, frozenset(members), skips
        self._started: set[int] = set()
        self._climbing: dict[int, int] = {}  # running trial to the rung it comes to next
        self._waiting: dict[int, int] = {}  # paused trial to the rung it waits at

    def start(self, trial: int, grace: float, late: bool, free: bool) -> None:
        """A trial starts, or goes on.

        It is not judged before it has seen more than `grace` samples; if it is `late`, at the
        last rung before the horizon alone. A `free` trial never is: no rung records it, so that
        it takes nobody's place and is no record to be beaten.
        """
        if trial in self._waiting:
            k = self._waiting.pop(trial)
            self.rungs[k].promoted.add(trial)
            self._climbing[trial] = k + 1
        elif trial not in self._started:
            self._started.add(trial)
            if free:
                return
            first = len(self.rungs) - 2 if late else 0
            later = [
                k for k, rung in enumerate(self.rungs) if k >= first and rung.milestone > grace
            ]
            self._climbing[trial] = later[0] if later else len(self.rungs) - 1

    def record(self, milestone: int, trial: int, score: float) -> None:
        """Note the score of a trial that runs. It waits if it is at the rung it was coming to.

        Where it meets no rung nothing changes, nor where it was recorded before: a trial taken
        up again repeats its last report.
        """
        k = self._climbing.get(trial)
        if k is None or milestone != self.rungs[k].milestone:
            return
        self.rungs[k].records[trial] = score
        if k < len(self.rungs) - 1:
            del self._climbing[trial]
            self._waiting[trial] = k

    def waits(self, trial: int) -> bool:
        """Whether a trial was recorded at a rung and has not gone on from there."""
        return trial in self._waiting

    def admits(self, trial: int) -> bool:
        """Whether a trial that waits may go on, as things stand."""
        return trial in self._promotable(self._waiting[trial])

    def end(self, trial: int) -> None:
        """A trial has ended; what it recorded stays."""
        self._climbing.pop(trial, None)
        self._waiting.pop(trial, None)

    def promotable(self) -> Iterator[tuple[int, int]]:
        """Paused trials that may go on, as (milestone, trial): highest rung first."""
        for k in reversed(range(len(self.rungs) - 1)):
            yield from ((self.rungs[k].milestone, trial) for trial in self._promotable(k))

    def hopeless(self) -> list[int]:
        """Paused trials that will not be among the promoted when their rung is full."""
        found = []
        for k, rung in enumerate(self.rungs[:-1]):
            waiting = self._waiting_at(k)
            places = math.ceil(self._at_most(k) / self._eta)
            found += sorted(waiting - set(rung.promotable(places, waiting)))
        return found

    def _promotable(self, k: int) -> list[int]:
        share = len(self.rungs[k].records) / self._eta
        places = math.floor(share) if self._coming(k) else math.ceil(share)
        return self.rungs[k].promotable(places, self._waiting_at(k))

    def _waiting_at(self, k: int) -> set[int]:
        return {trial for trial, rung in self._waiting.items() if rung == k}

    def _coming(self, k: int) -> int:
        """Trials that could still reach rung `k`."""
        climbing = sum(rung <= k for rung in self._climbing.values())
        waiting = sum(rung < k for rung in self._waiting.values())
        return self._to_start + climbing + waiting

    @property
    def _to_start(self) -> int:
        return len(self._members - self._started)

    def _at_most(self, k: int) -> int:
        """Records that rung `k` will have when it is full."""
        here = self.rungs[k]
        if k == 0:
            return len(here.records) + self._coming(0)
        below = self.rungs[k - 1]
        on_the_way = sum(rung == k for rung in self._climbing.values())
        if self._skips:
            on_the_way += self._to_start
        to_promote = math.ceil(self._at_most(k - 1) / self._eta) - len(below.promoted)
        return len(here.records) + min(self._coming(k), on_the_way + max(0, to_promote))


class Rungs:
    """A cell's brackets: one for `asha` and `none`, one for each first rung for `hyperband`.

    Args:
        search: with the scheduler, the reduction factor and the rungs.
        horizon: samples of the last rung, where trials end anyway.
        budget: trials of the cell.
        images: training images of the cell's partition, whose views are not counted.
    """

    def __init__(self, search: SearchConfig, horizon: int, budget: int, images: int = 0) -> None:
        points, eta = rung_milestones(horizon, search, images), search.asha.reduction_factor
        count = len(points) if search.scheduler == "hyperband" else 1
        self._weights = _hyperband_weights(count, eta)
        self._assigned: list[int] = []  # trials, in order, to their brackets
        members = [[n for n in range(budget) if self.bracket_of(n) == i] for i in range(count)]
        skips = search.asha.grace or search.transfer > 0
        self.brackets = [Bracket(points[i:], eta, members[i], skips) for i in range(count)]

    def bracket_of(self, trial: int) -> int:
        """A trial's bracket, by its number alone, so that a larger budget moves nobody.

        At any number the brackets have their shares to within a trial: each next one goes to the
        bracket that lags most.
        """
        total = sum(self._weights)
        while len(self._assigned) <= trial:
            now = len(self._assigned) + 1
            lags = [w * now / total - self._assigned.count(i) for i, w in enumerate(self._weights)]
            self._assigned.append(lags.index(max(lags)))
        return self._assigned[trial]

    def start(self, trial: int, grace: float = 0.0, late: bool = False, free: bool = False) -> None:
        """See `Bracket.start`."""
        self._of(trial).start(trial, grace, late, free)

    def record(self, milestone: int, trial: int, score: float) -> None:
        """See `Bracket.record`."""
        self._of(trial).record(milestone, trial, score)

    def waits(self, trial: int) -> bool:
        """See `Bracket.waits`."""
        return self._of(trial).waits(trial)

    def admits(self, trial: int) -> bool:
        """See `Bracket.admits`."""
        return self._of(trial).admits(trial)

    def end(self, trial: int) -> None:
        """See `Bracket.end`."""
        self._of(trial).end(trial)

    def promotable(self) -> int | None:
        """The paused trial to go on next: of the highest rung, and there the best."""
        found = [pair for bracket in self.brackets for pair in bracket.promotable()]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def hopeless(self) -> list[int]:
        """Paused trials that can be stopped for good."""
        return [trial for bracket in self.brackets for trial in bracket.hopeless()]

    def _of(self, trial: int) -> Bracket:
        return self.brackets[self.bracket_of(trial)]


def _hyperband_weights(count: int, eta: int) -> list[int]:
    """Hyperband's trials per bracket (Li et al. 2018, Algorithm 1), in no unit: s_max + 1 is
    `count`, and the bracket of rung i has s = s_max - i halvings before it."""
    return [math.ceil(count / (s + 1) * eta**s) for s in reversed(range(count))]
