"""Which settings mattered, group by group and over all partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from tune.experiment import Experiment
from tune.groups import Group
from tune.search import GroupSearch, TrialRecord
from tune.space import Space

BEST = 1 / 3  # the share of trials that is compared with all
MIN_TRIALS = 9  # with fewer, that is two trials or one
ALL = "all"  # partitions together


class Importance(NamedTuple):
    """A row of `importance.csv`; a group's importances sum to 1.

    `trials` is how many sampled the parameter.
    """

    partition: str
    method: str
    parameter: str
    importance: float
    trials: int


def importances(
    experiment: Experiment, groups: Mapping[Group, GroupSearch]
) -> Iterator[Importance]:
    """Importance of every searched parameter: how far the values of the best third differ from
    all values, by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255).

    Trials are compared at the first milestone that all of them reached, so that those stopped
    early count like the others. Over all partitions they are ranked within their own first.
    """
    for method, config in experiment.methods.items():
        pooled: list[tuple[TrialRecord, float]] = []
        for group, search in groups.items():
            if group.method != method:
                continue
            scored = list(_scored(search))
            yield from _evaluated(f"{group.partition:g}", method, config.parsed, scored)
            order = sorted(score for _, score in scored)
            pooled += [(trial, order.index(score) / len(order)) for trial, score in scored]
        yield from _evaluated(ALL, method, config.parsed, pooled)


def _scored(search: GroupSearch) -> Iterator[tuple[TrialRecord, float]]:
    """A group's trials with their scores at the first milestone, where they have it."""
    reports = [set(trial.reports) for trial in search.trials.values() if trial.reports]
    common = set.intersection(*reports) if reports else set()
    for trial in search.trials.values() if common else ():
        if trial.reports:
            yield trial, trial.reports[min(common)]


def _evaluated(
    partition: str, method: str, space: Space, scored: Sequence[tuple[TrialRecord, float]]
) -> Iterator[Importance]:
    """Of each parameter among the trials that sampled it.

    Where a parameter had no effect it stands at a value that says which trials these were, and
    would pass off the importance of what it depends on as its own.
    """
    found: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name in space.searched:
        study = optuna.create_study(direction="maximize")
        for trial, score in scored:
            if distribution := space.distributions(trial.config).get(name):
                params, distributions = {name: trial.config[name]}, {name: distribution}
                study.add_trial(
                    create_trial(params=params, distributions=distributions, value=score)
                )
        trials = study.get_trials(deepcopy=False)
        # Without different scores there is no best third.
        if len(trials) >= MIN_TRIALS and len({trial.value for trial in trials}) > 1:
            found[name], counts[name] = _unscaled(study, name), len(trials)
    total = sum(found.values())
    for name, importance in sorted(found.items(), key=lambda item: -item[1]) if total else ():
        yield Importance(partition, method, name, round(importance / total, 4), counts[name])


def _unscaled(study: optuna.Study, name: str) -> float:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
    try:
        return evaluator.evaluate(study, params=[name])[name]
    except (ValueError, RuntimeError):
        return 0.0  # all values are the same
