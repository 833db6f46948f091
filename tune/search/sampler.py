"""One cell's Optuna study, told the truth about stopped trials."""

from __future__ import annotations

import copy
import json
import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, BruteForceSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from records.cell import Cell
from search_spaces.distributions import Params, Space
from search_spaces.schema import SearchConfig

DEFAULT = 0
"""The number of a cell's first trial: the recipe's default."""
RANDOM = 5
"""Trials of a cell before TPE has a model; 3 and 8 measured worse (docs/search.md)."""

optuna.logging.set_verbosity(optuna.logging.WARNING)
# Optuna 6 will take `gamma` away, and requirements.txt keeps it out until there is a successor.
warnings.filterwarnings("ignore", message=".*`gamma`", category=FutureWarning)
# `multivariate` and `group` have been "experimental" since 2020.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class CellStudy:
    """Proposes a cell's configurations, by ask and tell.

    Every proposal's randomness is a function of (seed, cell, number of the trial), so a resumed
    study proposes what an uninterrupted one would have.

    Args:
        cell: names the study in the storage.
        space: what to sample from.
        search: the sampler and its settings.
        trials: of the cell; a space of no more configurations is walked through.
        seed: the experiment's.
        storage: shared by all cells of the run.
    """

    def __init__(
        self,
        cell: Cell,
        space: Space,
        search: SearchConfig,
        trials: int,
        seed: int,
        storage: BaseStorage,
    ) -> None:
        self._cell, self._space, self._search, self._seed = cell, space, search, seed
        self._budget = trials
        self._study = optuna.create_study(
            study_name=str(cell), storage=storage, direction="maximize"
        )
        self._numbers: list[int] = []  # of the study's trials, in its order
        self.asked: dict[int, optuna.Trial] = {}  # trials that run or wait, by number

    @property
    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def ask(self, number: int, given: Params | None = None) -> Params:
        """The configuration of trial `number`: `given`, or the sampler's.

        Trial 0 is the recipe's default.
        """
        if given is None:
            given = self._space.first() if number == DEFAULT else self.sampled(number)
        return self.adopt(number, given)

    def adopt(self, number: int, params: Params) -> Params:
        """Take up a trial whose configuration is known: an earlier process proposed it."""
        searched = {name: params[name] for name in self._space.distributions(params)}
        self._study.sampler = RandomSampler(self._entropy(number))  # of what was overruled
        self._study.enqueue_trial(searched)
        self._numbers.append(number)
        trial = self.asked[number] = self._study.ask()
        return self._space.suggest(trial)

    def sampled(self, number: int) -> Params:
        """What the sampler makes of the trials so far.

        It sees trials that run or wait by their last report, as if they had been stopped there:
        left running they would count as bad, and the best wait longest. It sees trials by number,
        not in the order in which this process met them.
        """
        sampler: BaseSampler
        small = self._space.size <= self._budget
        if small:
            sampler = BruteForceSampler(self._entropy(number))  # no configuration comes twice
        elif self._search.sampler == "random":
            sampler = RandomSampler(self._entropy(number))
        else:
            options: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True}
            sampler = TPESampler(
                n_startup_trials=RANDOM,
                gamma=_good,
                seed=self._entropy(number),
                **options,
            )
        seen = optuna.create_study(direction="maximize", sampler=sampler)
        if small or self._search.sampler != "random":
            numbered = sorted(zip(self._numbers, self.trials, strict=True), key=lambda t: t[0])
            seen.add_trials([_as_seen(trial) for _, trial in numbered])
        return self._space.suggest(seen.ask())

    def report(self, number: int, samples: int, prospect: float) -> None:
        """An intermediate value."""
        self.asked[number].report(prospect, samples)

    def tell(self, number: int, status: str, score: float) -> None:
        """The end of a trial: a value if it ran its course, PRUNED or FAIL if it didn't."""
        trial = self.asked.pop(number)
        state = _STATES[status]
        if status == DIVERGED:
            trial.set_user_attr(DIVERGED, True)
        self._study.tell(trial, score if state is TrialState.COMPLETE else None, state)

    def replay(
        self, number: int, params: Params, status: str, reports: dict[int, float], score: float
    ) -> None:
        """Add a finished trial of an earlier process; `score` as for `tell`."""
        state = _STATES[status]
        distributions = self._space.distributions(params)
        value = score if state is TrialState.COMPLETE else None
        if state is TrialState.PRUNED and reports:
            value = reports[max(reports)]  # as Optuna does when it is told
        self._numbers.append(number)
        self._study.add_trial(
            create_trial(
                state=state,
                params={name: params[name] for name in distributions},
                distributions=distributions,
                intermediate_values=reports,
                value=value,
                user_attrs={DIVERGED: True} if status == DIVERGED else {},
            )
        )

    def _entropy(self, number: int) -> int:
        entropy = [self._seed, zlib.crc32(str(self._cell).encode()), number]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _good(trials: int) -> int:
    """How many of so many trials TPE calls good: a quarter. Optuna's tenth is one of a cell's
    first ten, around which it then stays (docs/search.md)."""
    return math.ceil(trials / 4)


class _Seen(FrozenTrial):
    """A trial as a sampler is shown it. A study gives what it is handed a number of its own and
    changes nothing else, so it need not copy the rest, which took most of a proposal."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Seen:
        return copy.copy(self)


def _as_seen(trial: FrozenTrial) -> _Seen:
    reports, state, value = trial.intermediate_values, trial.state, trial.value
    if state is TrialState.RUNNING and reports:
        state, value = TrialState.PRUNED, reports[max(reports)]
    if trial.user_attrs.get(DIVERGED):
        reports = {}  # TPE ranks by how far a trial came, and this one is worse than any
    return _Seen(
        number=trial.number,
        trial_id=trial._trial_id,
        state=state,
        value=value,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_start if state.is_finished() else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=reports,
    )


class _StudiesFile(JournalFileBackend):
    """Optuna's journal, not forced to disk: 17 times a trial that took 3 ms each, and the run's
    own journal is what counts. One process writes, so it takes no lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))


def fresh_studies(path: Path) -> JournalStorage:
    """Empty studies in a file that Optuna's dashboard can open.

    What an earlier process told them is in the run's journal, and is replayed.
    """
    path.unlink(missing_ok=True)
    return JournalStorage(_StudiesFile(path))


DIVERGED = "diverged"
_STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,  # at a rung
    "cut": TrialState.PRUNED,  # by the time budget
    DIVERGED: TrialState.PRUNED,  # told as bad, so that the sampler learns to stay away
    "failed": TrialState.FAIL,
}
