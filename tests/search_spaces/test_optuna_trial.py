from __future__ import annotations

import copy
import math
from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import parse_space
from search_spaces.optuna_trial import optuna_trial

SPACE = parse_space(
    {
        "blocks": {"choice": ["11-7", "11"]},
        "llrd_decay": {"uniform": [0.5, 1.0], "when": {"blocks": ["11-7"]}, "otherwise": 1},
        "head_start": {"choice": ["probe"]},
        "batch_size": 64,
    },
    {},
)
CONFIG = {"blocks": "11-7", "llrd_decay": 0.75, "head_start": "probe", "batch_size": 64}
REPORTS = {10: 0.4, 30: 0.7, 60: 0.6}


@pytest.mark.parametrize(
    ("status", "state", "value"),
    [
        ("completed", TrialState.COMPLETE, 0.7),
        ("stopped", TrialState.PRUNED, 0.6),  # its last report, as Optuna has it
        ("cut", TrialState.PRUNED, 0.6),
        ("diverged", TrialState.PRUNED, 0.6),
        ("failed", TrialState.FAIL, None),
        ("running", TrialState.RUNNING, None),
        ("paused", TrialState.RUNNING, None),
    ],
)
def test_optuna_has_a_state_for_every_way_to_end(
    status: str, state: TrialState, value: float | None
) -> None:
    trial = optuna_trial(SPACE, CONFIG, status, REPORTS, 0.7)
    assert (trial.state, trial.value) == (state, value)
    assert trial.intermediate_values == REPORTS
    assert ("diverged" in trial.user_attrs) == (status == "diverged")
    study = optuna.create_study(direction="maximize")
    study.add_trial(trial)  # which refuses a trial that contradicts itself
    assert study.trials[0].state is state


@pytest.mark.parametrize("reports", [{}, {10: math.nan}])
def test_a_pruned_trial_without_a_last_value_has_none(reports: dict[int, float]) -> None:
    trial = optuna_trial(SPACE, CONFIG, "stopped", reports, -math.inf)
    assert trial.value is None
    optuna.create_study().add_trial(trial)


def test_its_parameters_are_those_that_were_sampled() -> None:
    whole = optuna_trial(SPACE, CONFIG, "running", {}, 0)
    assert whole.params == {"blocks": "11-7", "llrd_decay": 0.75, "head_start": "probe"}
    inactive = {**CONFIG, "blocks": "11", "llrd_decay": 1.0}
    assert optuna_trial(SPACE, inactive, "running", {}, 0).params.keys() == {"blocks", "head_start"}
    overruled = {**CONFIG, "head_start": "zeros"}
    assert "head_start" not in optuna_trial(SPACE, overruled, "running", {}, 0).params


def test_times_are_those_of_the_trial() -> None:
    began, ended = datetime.fromtimestamp(100), datetime.fromtimestamp(160)
    over = optuna_trial(SPACE, CONFIG, "completed", REPORTS, 0.7, began, ended)
    assert (over.datetime_start, over.datetime_complete) == (began, ended)
    running = optuna_trial(SPACE, CONFIG, "running", REPORTS, 0.7, began, ended)
    assert (running.datetime_start, running.datetime_complete) == (began, None)


def test_a_copy_may_have_another_number() -> None:
    trial = optuna_trial(SPACE, CONFIG, "running", {}, 0)
    other = copy.deepcopy(trial)
    other.number = 7
    assert trial.number != 7
