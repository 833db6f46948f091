"""The state of one cell's search: its trials, its scheduler and its winner."""

from __future__ import annotations

import math
from typing import Literal

from models.recipe import Recipe
from models.solvers import SOLVERS
from records import (
    Cell,
    End,
    Kind,
    TrialEvent,
    TrialPaused,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
    planned_seeds,
)
from search_spaces import Experiment, Params, check_recipe
from tune.search.sampler import entropy, propose
from tune.search.schedulers import milestones, new_scheduler
from tune.search.trial_record import DEFAULT_ORIGIN, FROM_PARTITION, TrialRecord


class CellSearch:
    """The state of one cell.

    Args:
        cell: its partition and its method.
        experiment: with the method's space and the settings of the search.
        images: training images of the partition.
        place: of the partition among all, from 0 for the smallest.
    """

    def __init__(self, cell: Cell, experiment: Experiment, images: int, place: int) -> None:
        method = experiment.methods[cell.method]
        self.place = place
        self.cell, self.space, self.needs_probe = cell, method.parsed, method.needs_probe
        self.budget = experiment.trials(cell.method)
        first = Recipe(**self.space.first())
        self.takes_steps, self._frozen = first.takes_steps, first.frozen_encoder
        self.horizon = experiment.horizon(cell.method, images)
        self.seeds = planned_seeds(experiment.final.seeds, cell.partition, images)
        self._search, self._seed = experiment.search, experiment.seed
        self.milestones = milestones(self.horizon, self._search, images)
        self.scheduler = new_scheduler(self._search, self.horizon, self.budget, images)
        self.trials: dict[int, TrialRecord] = {}
        self.orphans: list[int] = []  # of a killed run: to be proposed again, as they were

    @property
    def proposed(self) -> int:
        """Trials that this process proposed, or found ended or waiting."""
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
    def finished(self) -> bool:
        """Whether every trial of the budget has ended."""
        return not self.unproposed and all(trial.ended for trial in self.trials.values())

    @property
    def has_next(self) -> bool:
        """Whether a trial could start or go on now."""
        return self.unproposed > 0 or self.scheduler.promotable() is not None

    @property
    def transferred(self) -> int:
        """Trials whose configuration came from a smaller partition."""
        return sum(t.origin.startswith(FROM_PARTITION) for t in self.trials.values())

    def evaluations(self, samples: float) -> int:
        """Count how often a trial is judged up to some number of samples."""
        if not self.takes_steps:
            return 1
        passed = sum(milestone <= samples for milestone in self.milestones)
        if self._frozen:
            return passed
        # At rungs before the last the mean of start and trained weights is judged as well.
        return passed + sum(rung <= samples for rung in self.scheduler.milestones[:-1])

    def status(self, number: int) -> str:
        """Return how a trial ended, or else where it stands.

        It is `left` while it is still to be proposed again, `paused` while it waits at a rung, and
        `running` otherwise.
        """
        if how := self.trials[number].ended:
            return how
        if number in self.orphans:
            return "left"
        return "paused" if self.scheduler.waits(number) else "running"

    def under_way(self, status: Literal["running", "paused"]) -> list[int]:
        """Return the trials that run, or those that wait at a rung."""
        return [number for number in self.trials if self.status(number) == status]

    def searched(self, config: Params) -> Params:
        """Return the parameters of `config` that the space searches."""
        return {name: config[name] for name in self.space.distributions(config)}

    def entropy(self, number: int) -> int:
        """Return the randomness of a trial's proposal."""
        return entropy(self._seed, self.cell, number)

    def sampled(self, number: int) -> Params:
        """Return what the sampler proposes for trial `number`, given the trials so far."""
        return propose(self.space, self._search, self.trials, self.budget, self.entropy(number))

    def start(self, number: int) -> None:
        """Let the scheduler know of a trial that starts or goes on.

        What did well at a smaller partition is judged by the last rung before the horizon alone,
        as that partition says more than an early rung. The default always runs to the horizon, so
        that every cell has one honest full result.
        """
        origin, judged_from = self.trials[number].origin, 0.0
        if origin == DEFAULT_ORIGIN:
            judged_from = math.inf
        elif origin.startswith(FROM_PARTITION):
            judged_from = self.scheduler.milestones[-2:][0]
        self.trials[number].ended = None
        self.scheduler.start(number, judged_from)

    def check(self, event: TrialEvent | Winner) -> None:
        """Check an event of a journal; raises ValueError if it does not fit those before it."""
        trial = self.trials.get(event.trial)
        if trial is None and not (
            isinstance(event, TrialStarted) and event.trial == len(self.trials)
        ):
            raise ValueError("an earlier event is missing")
        if trial and trial.ended not in (None, "cut") and isinstance(event, TrialEvent):
            raise ValueError(f"it has {trial.ended} before")
        match event:
            case TrialStarted(config=config, probe=probe):
                if trial and (trial.config, trial.probe) != (config, probe):
                    raise ValueError("it started with another configuration")
                self.space.check(config)
                check_recipe(probe or {})
            case TrialReported(report=report):
                if not 0 < report.milestone <= self.horizon:
                    raise ValueError(f"no milestone is at {report.milestone}")
                check_recipe({**self.trials[event.trial].config, **report.chosen})
            case Winner(config=config, tried=tried, probe=probe):
                self.space.check(config)
                self.space.check(tried)
                check_recipe(probe or {})
            case TrialPaused() if not self.scheduler.waits(event.trial):
                raise ValueError("it does not wait at a rung")

    def take(self, number: int, report: TrialReport) -> End | None:
        """Add a report to its trial; returns how the trial ends by it, if it does.

        Trials that are under way are compared by their prospect, winners by their score.
        """
        trial = self.trials[number]
        if not trial.samples or report.samples <= trial.first[0]:  # or it began anew
            trial.first = report.samples, report.seconds
        trial.samples, trial.seconds = report.samples, report.seconds
        if report.diverged or not math.isfinite(report.score):
            return "diverged"
        if report.milestone not in trial.reports:
            trial.reports[report.milestone] = report.prospect
            if report.score > trial.score:
                trial.best = report
        self.scheduler.record(report.milestone, number, report.prospect)
        return "completed" if report.milestone >= self.horizon else None

    def end(self, number: int, how: End) -> None:
        """End a trial; one that was cut keeps its place, as a resumed run takes it up."""
        self.trials[number].ended = how
        if how != "cut":
            self.scheduler.end(number)

    def winner(self) -> Winner | None:
        """Return the best trial so far; of two that tie, the earlier. None that diverged wins."""
        sound = [n for n, t in self.trials.items() if t.best and t.ended != "diverged"]
        number = max(sound, key=lambda n: (self.trials[n].score, -n), default=None)
        if number is None:
            return None
        trial = self.trials[number]
        best = trial.best
        assert best is not None
        config = trial.config | best.chosen
        return Winner(
            cell=self.cell,
            trial=number,
            val_accuracy=best.val_accuracy,
            samples=best.samples,
            kind=_kind(Recipe(**config)),
            config=config,
            tried=trial.config,
            probe=trial.probe,
        )


def _kind(recipe: Recipe) -> Kind:
    if not SOLVERS[recipe.solver].trains:
        return "zero_shot"
    return "probe" if recipe.frozen_encoder else "tuned"
