"""Trials as Optuna knows them: for its samplers, and for its dashboard."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search_spaces.distributions import Params, Space

DIVERGED = "diverged"
_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,  # at a rung
    "cut": TrialState.PRUNED,  # by the time budget
    DIVERGED: TrialState.PRUNED,  # a bad trial, so that the sampler learns to stay away
    "failed": TrialState.FAIL,
}
_EPOCH = datetime.fromtimestamp(0)


class OptunaTrial(FrozenTrial):
    """A trial that is copied without its contents, which took most of a proposal's time.

    A study that takes a trial gives it a number and changes nothing else.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> OptunaTrial:
        return copy.copy(self)


def optuna_trial(
    space: Space,
    config: Params,
    status: str,
    reports: Mapping[int, float],
    score: float,
    began: datetime = _EPOCH,
    ended: datetime = _EPOCH,
) -> OptunaTrial:
    """Return a trial as Optuna would have it: COMPLETE, PRUNED, FAIL or, if not ended, RUNNING.

    Its parameters are those that the space samples in `config`. A pruned trial has the value of its
    last report, as in Optuna, and a completed one has `score`.
    """
    state = _STATES.get(status, TrialState.RUNNING)
    value = score if state is TrialState.COMPLETE else None
    if state is TrialState.PRUNED and reports and math.isfinite(last := reports[max(reports)]):
        value = last
    distributions = space.distributions(config)
    return OptunaTrial(
        number=-1,  # the study's to give
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=began,
        datetime_complete=ended if state.is_finished() else None,
        params={name: config[name] for name in distributions},
        distributions=distributions,
        user_attrs={DIVERGED: True} if status == DIVERGED else {},
        system_attrs={},
        intermediate_values=dict(reports),
    )
