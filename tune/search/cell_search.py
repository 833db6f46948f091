"""The state of one cell's search: its trials, its rungs, its study and its winner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from optuna.storages import BaseStorage

from models.recipe import Recipe
from records import Cell, Kind, TrialReport, Winner
from search_spaces.distributions import Params
from search_spaces.schema import Experiment
from tune.search.sampler import CellStudy
from tune.search.schedulers.asha import Rungs

DEFAULT_ORIGIN = "default"
"""The origin of a cell's first trial, the recipe's default."""
SAMPLER = "sampler"
"""The origin of a configuration that the cell's own study proposed."""
FROM_PARTITION = "partition "
"""Begins the origin of a configuration that a smaller partition was good with."""


@dataclass
class TrialRecord:
    """What is known of one trial. `probe` is what its head started from.

    `origin` says who proposed it: default, sampler or `partition 10`. `status` is running, paused
    (it waits at a rung), completed, stopped, diverged, failed or cut.
    """

    config: Params
    probe: Params | None = None
    origin: str = SAMPLER
    reports: dict[int, float] = field(default_factory=dict)  # milestone to prospect
    best: TrialReport | None = None  # the report with the highest score
    status: str = "running"
    samples: int = 0
    seconds: float = 0.0

    @property
    def score(self) -> float:
        return self.best.score if self.best else -math.inf


class CellSearch:
    """The state of one cell: its trials, rungs and study.

    Args:
        images: of its partition's training split, as listed.
    """

    def __init__(
        self, cell: Cell, experiment: Experiment, storage: BaseStorage, images: int
    ) -> None:
        method = experiment.methods[cell.method]
        self.cell = cell
        self.budget = experiment.trials(cell.method)
        self.horizon = experiment.horizon(cell.method)
        self.needs_probe = method.needs_probe
        self.trials: dict[int, TrialRecord] = {}
        self.rungs = Rungs(experiment.search, self.horizon, self.budget, images)
        self.study = CellStudy(
            *(cell, method.parsed, experiment.search, self.budget, experiment.seed, storage)
        )
        self.orphans: list[int] = []  # of a killed run: to be proposed again, as they were
        self._space = method.parsed
        self._grace = experiment.search.asha.grace

    @property
    def proposed(self) -> int:
        return len(self.trials) - len(self.orphans)

    @property
    def planned(self) -> int:
        """Trials of the budget, or those of a killed run that had a larger one."""
        return max(self.budget, len(self.trials))

    @property
    def unproposed(self) -> int:
        """Trials still to be proposed, those of a killed run among them."""
        return self.planned - self.proposed

    @property
    def exhausted(self) -> bool:
        """Whether every trial of the budget has been proposed."""
        return not self.unproposed

    @property
    def finished(self) -> bool:
        """Whether every trial of the budget has ended."""
        return self.exhausted and not any(
            t.status in ("running", "paused") for t in self.trials.values()
        )

    @property
    def has_next(self) -> bool:
        """Whether a trial could start or go on now."""
        return not self.exhausted or self.rungs.promotable() is not None

    @property
    def transferred(self) -> int:
        """Trials whose configuration came from a smaller partition."""
        return sum(t.origin.startswith(FROM_PARTITION) for t in self.trials.values())

    def searched(self, config: Params) -> Params:
        """The parameters of `config` that the space searches."""
        return {name: config[name] for name in self._space.distributions(config)}

    def start(self, number: int) -> None:
        """Let the rungs know of a trial that starts or goes on.

        With `grace` it is not judged inside its own warm-up, where slow starters look like bad
        ones. What did well at a smaller partition is judged by the last rung alone, as that says
        more than an early one. The default always runs to the horizon, so that every cell has
        one honest full result.
        """
        trial = self.trials[number]
        grace = trial.config.get("warmup", 0.0) * self.horizon if self._grace else 0.0
        late = trial.origin.startswith(FROM_PARTITION)
        self.rungs.start(number, grace, late, free=trial.origin == DEFAULT_ORIGIN)

    def take(self, number: int, report: TrialReport) -> str | None:
        """Let trial, rungs and study know of a report; returns how the trial ends by it, if so.

        Trials that are under way are compared by their prospect, winners by their score.
        """
        trial = self.trials[number]
        milestone = report.milestone
        trial.samples, trial.seconds = report.samples, report.seconds
        if report.diverged or not math.isfinite(report.score):
            return "diverged"
        if milestone not in trial.reports:
            trial.reports[milestone] = report.prospect
            if report.score > trial.score:
                trial.best = report
            if number in self.study.asked:
                self.study.report(number, milestone, report.prospect)
        self.rungs.record(milestone, number, report.prospect)
        return "completed" if milestone >= self.horizon else None

    def winner(self) -> Winner | None:
        """The best trial so far; the earlier one of two that tie. One that diverged never wins."""
        sound = {n: t for n, t in self.trials.items() if t.best and t.status != "diverged"}
        scored = [(trial.score, -number) for number, trial in sound.items()]
        if not scored:
            return None
        number = -max(scored)[1]
        trial = self.trials[number]
        assert trial.best is not None
        config = trial.config | trial.best.chosen
        return Winner(
            cell=self.cell,
            trial=number,
            val_accuracy=trial.best.val_accuracy,
            samples=trial.best.samples,
            kind=_kind(Recipe(**config)),
            config=config,
            tried=trial.config,
            probe=trial.probe,
        )


def _kind(recipe: Recipe) -> Kind:
    """What a recipe trains: nothing, a head alone, or a part of the encoder too."""
    if recipe.solver == "none":
        return "zero_shot"
    return "probe" if recipe.frozen_encoder else "tuned"
