"""The one trainable: a fit, from milestone to milestone, on an actor that is reused."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import math
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
from ray import tune as ray_tune

from records import Cell, TrialReport
from tune.storage.storage import Storage
from tune.trials.checkpoints import Checkpoint

if TYPE_CHECKING:
    from models.fit import Fit
    from models.results import Evaluation
    from tune.trials.trial_context import TrialContext
    from tune.workers.survey import Admission

UNSAVED = 120.0
"""Seconds of training that may be lost with a process, where the search cannot pause the trial."""
REPORT = "report"
"""The key of a trial's report, among what Tune adds to a result."""
SCORE = "score"
"""The key of its score, which Tune's searcher asks for."""


class SuffixTrial(ray_tune.Trainable):
    """Trains one configuration; every `step` reports at the next milestone.

    The trial's own file under `checkpoints` carries it from one process to the next.
    """

    # Tune stops an actor that is still starting once another is free for its trial. If starting
    # took longer than a trial, that other actor would do all the work. So starting is cheap: what
    # takes seconds (torch, weights, features) waits for the first step.

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        context: tuple[ray.ObjectRef[TrialContext]],
        checkpoints: Storage,
        patience: float = math.inf,
        admission: Admission | None = None,
    ) -> None:
        """Take what all trials share; nothing is loaded yet."""
        self._handle, self._patience, self._admission = context[0], patience, admission
        self._checkpoints = checkpoints
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial; Tune uses actors again."""
        self._asked = new_config
        self._fit: Fit | None = None  # the last trial's memory goes before the next one's comes
        self._seconds, self._milestone = 0.0, 0
        self._reported: TrialReport | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next milestone; return the report."""
        with _ended_after(self._patience):
            # Imports happen here, where no variable is a fit: a library may keep an exception from
            # its first import, and with it all frames below, as long as the process lives.
            self._check_machine()
            report = self._step(self._context())
        return {REPORT: report, SCORE: report.score}

    def _check_machine(self) -> None:
        """Raise an error before this process's first work if its machine is unfit for it."""
        if self._admission is not None:
            self._admission.check()
            self._admission = None

    def _step(self, context: TrialContext) -> TrialReport:
        began = time.perf_counter()  # after what an actor does once: imports, weights
        if self._fit is None:
            self._fit = self._prepare(context)
        fit = self._fit
        if self._reported is not None:
            report, self._reported = self._reported, None
            # Once more, in case its reader died before it was read.
            return dataclasses.replace(report, taken_up=self._taken_up)
        self._milestone = next(point for point in self._points if point > self._milestone)
        # Elsewhere nobody compares trials.
        compared = self._milestone in self._pauses
        evaluation = fit.train_until(self._milestone, prospect=compared)
        self._seconds += time.perf_counter() - began
        report = self._report(evaluation, fit)
        # A probe is refitted in the time that a file takes.
        if evaluation.finite and not fit.recipe.frozen_encoder:
            self._keep(fit, report)
        return report

    def _report(self, evaluation: Evaluation, fit: Fit) -> TrialReport:
        return TrialReport(
            milestone=self._milestone,
            taken_up=self._taken_up,
            samples=evaluation.samples,
            steps=evaluation.steps,
            train_loss=evaluation.train_loss,
            val_accuracy=evaluation.val_accuracy,
            val_loss=evaluation.val_loss,
            score=evaluation.score,
            prospect=evaluation.score if evaluation.prospect is None else evaluation.prospect,
            weight_distance=evaluation.weight_distance,
            diverged=not evaluation.finite,
            seconds=round(self._seconds, 4),
            node=ray.get_runtime_context().get_node_id()[:8],
            chosen=fit.recipe.chosen(evaluation.head),
        )

    def _context(self) -> TrialContext:
        import torch

        from tune.workers.object_store import fetch

        context: TrialContext = fetch(self._handle)
        torch.set_num_threads(max(1, int(context.experiment.resources.cpus_per_trial)))
        _ = context.encoder
        return context

    def _prepare(self, context: TrialContext) -> Fit:
        """Return the trial's fit, at its start or where its checkpoint left it."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        asked = self._asked
        cell, config, probe = Cell.parse(asked["cell"]), asked["config"], asked["probe"]
        fit = context.fit(cell, config, probe, seed=0, searching=True)
        self._points, self._pauses = context.milestones(cell, fit), context.rungs(cell, fit)
        self._kept_at = time.monotonic()
        self._checkpoint = Checkpoint(
            self._checkpoints, context, cell, asked["number"], config, probe, fit
        )
        self._reported = self._checkpoint.take_up(fit)
        if self._reported is not None:
            self._seconds = self._reported.seconds
            self._milestone = self._reported.milestone
        self._taken_up = self._milestone
        return fit

    def _keep(self, fit: Fit, report: TrialReport) -> None:
        """Write a checkpoint where the trial may pause or end, and where much would be lost."""
        now = time.monotonic()
        if self._milestone in self._pauses or now - self._kept_at > UNSAVED:
            self._checkpoint.save(fit, report)
            self._kept_at = now
        else:
            self._checkpoint.passed(report)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: Tune asks for one when a run ends, and the trial keeps its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: the trial finds its own checkpoint."""


@contextlib.contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer: a trial that hangs would hold its slot for ever.

    A thread in C ends it, whatever Python waits for, and writes every thread's traceback to the
    process's log. To Tune the process has died, and the trial is tried again.
    """
    if math.isinf(seconds):
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
