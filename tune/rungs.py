"""ASHA's stopping rule for one group (Li et al. 2020, arXiv:1810.05934, the stopping variant)."""

from __future__ import annotations

import math

from tune.experiment import SearchConfig


def milestones(horizon: int, search: SearchConfig) -> tuple[int, ...]:
    """Samples at which a trial is evaluated: the rungs, and evenly spaced points between."""
    points = {round(horizon * i / search.evaluations) for i in range(1, search.evaluations + 1)}
    return tuple(sorted({*points, *rung_milestones(horizon, search)} - {0}))


def rung_milestones(horizon: int, search: SearchConfig) -> tuple[int, ...]:
    """Samples of each rung: the horizon, and down from it by the reduction factor."""
    if search.scheduler == "none":
        return (horizon,)
    asha = search.asha
    rungs = {round(horizon / asha.reduction_factor**i) for i in range(asha.rungs)}
    return tuple(sorted(rungs - {0}))


class Rungs:
    """The records of a group's trials at each rung.

    A trial goes on if its score is among the best 1/reduction_factor of its rung so far, itself
    counted in. Against known faults of the asynchronous rule: a rung stops nobody before it
    holds `min_records`; a tie goes on; NaN never does.

    Args:
        search: with the reduction factor and the rungs.
        horizon: samples of the last rung, where trials end anyway.
    """

    def __init__(self, search: SearchConfig, horizon: int) -> None:
        self._reduction_factor = search.asha.reduction_factor
        self._min_records = search.asha.min_records
        self.records: dict[int, dict[int, float]] = {
            milestone: {} for milestone in rung_milestones(horizon, search)
        }

    def record(self, milestone: int, trial: int, score: float) -> bool:
        """Note `trial`'s score at `milestone`; returns whether the trial goes on.

        A milestone without a rung lets everyone go on, and so does a rung where the trial was
        recorded before: a resumed trial that reports again changes nothing.
        """
        if math.isnan(score):
            return False
        rung = self.records.get(milestone)
        if rung is None or trial in rung:
            return True
        rung[trial] = score
        if len(rung) < self._min_records:
            return True
        better = sum(other > score for other in rung.values())
        return better < math.ceil(len(rung) / self._reduction_factor)
