"""What a cell tries next, by Optuna's samplers: a pure function of the cell's trials."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.samplers import BaseSampler, BruteForceSampler, RandomSampler, TPESampler

from records import Cell
from search_spaces import Params, SearchConfig, Space
from search_spaces.optuna_trial import DIVERGED, OptunaTrial, optuna_trial
from tune.search.trial_record import TrialRecord

RANDOM = 5
"""Trials of a cell before TPE has a model; 3 and 8 measured worse (docs/search.md)."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
# Optuna 6 will take `gamma` away, and requirements.txt keeps it out until there is a successor.
warnings.filterwarnings("ignore", message=".*`gamma`", category=FutureWarning)
# `multivariate` and `group` have been "experimental" since 2020.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def entropy(seed: int, cell: Cell, number: int) -> int:
    """Return the randomness of a proposal, so that a resumed search proposes what it would have."""
    source = [seed, zlib.crc32(str(cell).encode()), number]
    return int(np.random.SeedSequence(source).generate_state(1)[0])


def propose(
    space: Space, search: SearchConfig, trials: Mapping[int, TrialRecord], budget: int, entropy: int
) -> Params:
    """Return the configuration that the sampler makes of a cell's trials so far.

    The sampler sees trials in the order of their numbers, not in that of their events. A space with
    no more configurations than the budget has trials is walked through.
    """
    sampler: BaseSampler
    if space.size <= budget:
        sampler = BruteForceSampler(entropy)  # no configuration comes twice
    elif search.sampler == "random":
        sampler, trials = RandomSampler(entropy), {}
    else:
        sampler = TPESampler(
            n_startup_trials=RANDOM,
            gamma=_good,
            seed=entropy,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([_as_seen(space, trial) for _, trial in sorted(trials.items())])
    return space.suggest(study.ask())


def completed(space: Space, config: Params, entropy: int) -> Params:
    """Return a configuration of another cell with what the space does not allow drawn anew."""
    study = optuna.create_study(sampler=RandomSampler(entropy))
    study.enqueue_trial({name: config[name] for name in space.distributions(config)})
    return space.suggest(study.ask())


def _good(trials: int) -> int:
    """Return the number of trials that TPE calls good: a quarter.

    Optuna's tenth is one of a cell's first ten, around which it then stays (docs/search.md).
    """
    return math.ceil(trials / 4)


def _as_seen(space: Space, trial: TrialRecord) -> OptunaTrial:
    """Return a trial as the sampler sees it.

    A trial that runs or waits looks as if it had been stopped at its last report: left running it
    would count as bad, and the best trials wait longest. One that diverged has no reports, as TPE
    ranks by how far a trial came, and this one is worse than any.
    """
    status = trial.ended or ("stopped" if trial.reports else "running")
    reports = {} if status == DIVERGED else trial.reports
    return optuna_trial(space, trial.config, status, reports, trial.score)
