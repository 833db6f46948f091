"""One group's Optuna study, told the truth about stopped trials."""

from __future__ import annotations

import warnings
import zlib
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from tune.experiment import SearchConfig
from tune.groups import Group
from tune.space import Params, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)
# `multivariate` and `group` have been "experimental" since 2020.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class GroupStudy:
    """Proposes a group's configurations, by ask and tell.

    Every proposal's randomness is a function of (seed, group, number of the trial), so a resumed
    study proposes what an uninterrupted one would have.

    Args:
        group: names the study in the storage.
        space: what to sample from.
        search: the sampler and its settings.
        seed: the experiment's.
        storage: shared by all groups of the run.
    """

    def __init__(
        self, group: Group, space: Space, search: SearchConfig, seed: int, storage: BaseStorage
    ) -> None:
        self._group, self._space, self._search, self._seed = group, space, search, seed
        self._study = optuna.create_study(
            study_name=str(group), storage=storage, direction="maximize"
        )
        self.asked: dict[int, optuna.Trial] = {}  # trials that run, by number

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def ask(self, number: int) -> Params:
        """The configuration of trial `number`; trial 0 is the recipe's default."""
        if number == 0:
            return self._enqueued(0, self._space.first())
        self._study.sampler = self._sampler(number)
        trial = self._study.ask()
        self.asked[number] = trial
        return self._space.suggest(trial)

    def adopt(self, number: int, params: Params) -> None:
        """Take up a trial that an earlier process proposed and did not finish."""
        self._enqueued(number, params)

    def _enqueued(self, number: int, params: Params) -> Params:
        searched = {name: params[name] for name in self._space.distributions(params)}
        self._study.enqueue_trial(searched)
        trial = self._study.ask()
        self.asked[number] = trial
        return self._space.suggest(trial)

    def report(self, number: int, samples: int, score: float) -> None:
        """An intermediate value."""
        self.asked[number].report(score, samples)

    def tell(self, number: int, status: str, score: float) -> None:
        """The end of a trial: a value if it ran its course, PRUNED or FAIL if it didn't."""
        trial = self.asked.pop(number)
        state = _STATES[status]
        self._study.tell(trial, score if state is TrialState.COMPLETE else None, state)

    def replay(self, params: Params, status: str, reports: dict[int, float]) -> None:
        """Add a finished trial of an earlier process."""
        state = _STATES[status]
        distributions = self._space.distributions(params)
        value = max(reports.values()) if state is TrialState.COMPLETE else None
        if state is TrialState.PRUNED and reports:
            value = reports[max(reports)]  # as Optuna does when it is told
        self._study.add_trial(
            create_trial(
                state=state,
                params={name: params[name] for name in distributions},
                distributions=distributions,
                intermediate_values=reports,
                value=value,
            )
        )

    def _sampler(self, number: int) -> BaseSampler:
        entropy = [self._seed, zlib.crc32(str(self._group).encode()), number]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        if self._search.sampler == "random":
            return RandomSampler(seed)
        options: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}
        return TPESampler(n_startup_trials=self._search.startup_trials, seed=seed, **options)


_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,  # by ASHA
    "cut": TrialState.PRUNED,  # by the time budget
    "diverged": TrialState.PRUNED,  # told as bad, so that the sampler learns to stay away
    "failed": TrialState.FAIL,
}
