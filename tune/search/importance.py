"""Which settings mattered, cell by cell and over all partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, create_trial

from partitions import named
from records import Cell
from search_spaces import Experiment, Space
from tune.search.cell_search import CellSearch
from tune.search.trial_record import SAMPLER, TrialRecord

BEST = 1 / 3
"""The share of trials that is compared with all trials."""
MIN_TRIALS = 15
"""Trials that a parameter needs, so that five are compared: PED-ANOVA is not stable with fewer."""
ALL = "all"
"""Stands for the partition where all of them are ranked together."""

Ranked = tuple[TrialRecord, float]


class Importance(NamedTuple):
    """A row of `importance.csv`; a cell's importances sum to 1."""

    partition: str
    method: str
    parameter: str
    importance: float
    trials: int  # that sampled the parameter


def importances(experiment: Experiment, cells: Mapping[Cell, CellSearch]) -> Iterator[Importance]:
    """Yield the importance of every searched parameter, by PED-ANOVA.

    It says how far the values of the best third differ from all values (Watanabe et al. 2023,
    arXiv:2304.10255). Trials that the sampler proposed are ranked by how far they came, as better
    ones come further, then by their prospect there. Trials that diverged come last. The default and
    what smaller partitions handed up take no part: they were not sampled. Over all partitions,
    trials are ranked within their own first.
    """
    for method, config in experiment.methods.items():
        pooled: list[Ranked] = []
        for cell, state in cells.items():
            if cell.method == method:
                ranked = list(_ranked(state))
                yield from _evaluated(named(cell.partition), method, config.parsed, ranked)
                pooled += ranked
        yield from _evaluated(ALL, method, config.parsed, pooled)


def _ranked(state: CellSearch) -> Iterator[Ranked]:
    """Yield a cell's sampled trials, ranked from 0 for the worst to 1; equals share a rank."""
    places = {}
    for number, trial in state.trials.items():
        if trial.origin == SAMPLER and trial.ended != "failed":
            reached = max(trial.reports, default=0)
            sound = trial.ended != "diverged"
            places[number] = (sound, reached, trial.reports.get(reached, 0.0))
    order = sorted(places.values())
    for number, place in places.items():
        yield state.trials[number], order.index(place) / max(1, len(order) - 1)


def _evaluated(
    partition: str, method: str, space: Space, ranked: Sequence[Ranked]
) -> Iterator[Importance]:
    """Yield the rows of one ranking, if it has two or more parameters to compare.

    A parameter is evaluated by itself, among the trials that sampled it. In the others it was
    inactive and has a fixed value, by which its condition's importance would seem its own.
    """
    from optuna.importance import PedAnovaImportanceEvaluator  # takes a second of a run's start

    found: dict[str, float] = {}
    counts: dict[str, int] = {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST)
    for name in space.searched:
        study = _study_of(name, space, ranked)
        trials = study.get_trials(deepcopy=False)
        if len(trials) >= MIN_TRIALS and _can_tell(name, trials):
            found[name], counts[name] = evaluator.evaluate(study, params=[name])[name], len(trials)
    total = sum(found.values())
    if len(found) < 2 or not total:
        return  # of one alone it is 1, whatever the parameter did
    for name, importance in sorted(found.items(), key=lambda item: -item[1]):
        yield Importance(partition, method, name, round(importance / total, 4), counts[name])


def _study_of(name: str, space: Space, ranked: Sequence[Ranked]) -> optuna.Study:
    """Return the trials that sampled a parameter, by it alone, with their ranks as values."""
    study = optuna.create_study(direction="maximize")
    for trial, rank in ranked:
        if distribution := space.distributions(trial.config).get(name):
            params, distributions = {name: trial.config[name]}, {name: distribution}
            study.add_trial(create_trial(params=params, distributions=distributions, value=rank))
    return study


def _can_tell(name: str, trials: Sequence[FrozenTrial]) -> bool:
    """Whether there is a best third, and a value that it could have more often than the others."""
    ranks, values = {trial.value for trial in trials}, {trial.params[name] for trial in trials}
    return len(ranks) > 1 and len(values) > 1
