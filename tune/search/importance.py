"""Which settings mattered, cell by cell and over all partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, create_trial

from records.cell import Cell
from search_spaces.distributions import Space
from search_spaces.schema import Experiment
from tune.search.cell_search import SAMPLER, CellSearch, TrialRecord

BEST = 1 / 3  # the share of trials that is compared with all
MIN_TRIALS = 15  # so that it is five trials: with fewer PED-ANOVA is not stable, says Optuna
ALL = "all"  # partitions together

Ranked = tuple[TrialRecord, float]


class Importance(NamedTuple):
    """A row of `importance.csv`; a cell's importances sum to 1.

    `trials` is how many sampled the parameter.
    """

    partition: str
    method: str
    parameter: str
    importance: float
    trials: int


def importances(experiment: Experiment, cells: Mapping[Cell, CellSearch]) -> Iterator[Importance]:
    """Importance of every searched parameter: how far the values of the best third differ from
    all values, by PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255).

    Trials that the sampler proposed are ranked: by how far they came, as further is where the
    better ones were let go, then by their prospect there; those that diverged come last. What came
    from elsewhere (the default, smaller partitions' best) was let go whatever its score, and takes
    no part. Over all partitions trials are ranked within their own first.
    """
    for method, config in experiment.methods.items():
        pooled: list[Ranked] = []
        for cell, search in cells.items():
            if cell.method == method:
                ranked = list(_ranked(search))
                yield from _evaluated(f"{cell.partition:g}", method, config.parsed, ranked)
                pooled += ranked
        yield from _evaluated(ALL, method, config.parsed, pooled)


def _ranked(search: CellSearch) -> Iterator[Ranked]:
    """A cell's sampled trials with their ranks, from 0 for the worst to 1; equals share one."""
    places = {}
    for number, trial in search.trials.items():
        if trial.origin == SAMPLER and trial.status != "failed":
            reached = max(trial.reports, default=0)
            sound = trial.status != "diverged"
            places[number] = (sound, reached, trial.reports.get(reached, 0.0))
    order = sorted(places.values())
    for number, place in places.items():
        yield search.trials[number], order.index(place) / max(1, len(order) - 1)


def _evaluated(
    partition: str, method: str, space: Space, ranked: Sequence[Ranked]
) -> Iterator[Importance]:
    """Of each parameter among the trials that sampled it, where there are two or more to compare.

    Where a parameter had no effect it stands at a value that says which trials these were, and
    would pass off the importance of what it depends on as its own.
    """
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
    """The trials that sampled a parameter, by it alone, with their ranks as values."""
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
