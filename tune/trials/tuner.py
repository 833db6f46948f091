"""The search, as one Tuner sees it: a searcher, a scheduler, and the run between them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from errors import one_line
from records import Cell, TrialReport
from tune.search.search import Search
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.trainable import REPORT, SCORE, SuffixTrial
from tune.trials.trial_context import Workbench
from tune.workers.placement import Placement, TrialQueue
from tune.workers.ray_environment import start_together

RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b", re.MULTILINE)


class _NoSnapshot:
    """Pickles as nothing, where Tune saves what it will never need: the journal is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class CellSearcher(_NoSnapshot, Searcher):
    """Hands out `Search`'s proposals. Tune unwraps a searcher's attribute named `searcher`.

    Args:
        search: proposes.
        scheduler: knows which trials wait for an actor.
        slots: trials that run at once. No trial is proposed before one of them is free: the later
            it is proposed, the more results it is based on.
        spare: trials proposed beyond that, which wait for machines that may join.
    """

    def __init__(
        self, search: Search, scheduler: CellScheduler, slots: int, spare: int = 0
    ) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._search, self._scheduler = search, scheduler
        self._slots, self._spare = slots, spare
        self._out: dict[str, tuple[Cell, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Propose a trial for Tune to start; None if none is to start now."""
        enough = len(self._out) >= self._slots and self._scheduler.queue.waiting >= self._spare
        if enough and not self._search.finished:
            return None
        proposal = self._search.propose()
        if proposal is None:
            return Searcher.FINISHED if self._search.finished else None
        self._out[trial_id] = (proposal.cell, proposal.number)
        return {
            "cell": str(proposal.cell),
            "number": proposal.number,
            "config": proposal.config,
            "probe": proposal.probe,
            "anywhere": self._scheduler.queue.anywhere(proposal.config),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the search of a trial that failed; all others ended by its own decision."""
        cell, number = self._out.pop(trial_id)
        if error:
            self._search.end(cell, number, "failed", self._scheduler.failures.pop(trial_id, ""))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a run is resumed from its journal."""
        raise NotImplementedError("a run is resumed from its journal")


class CellScheduler(_NoSnapshot, FIFOScheduler):
    """Passes every result to the search.

    Args:
        search: decides.
        queue: the trials that run or wait.
        patience: seconds after which a trial without a report ends its process.
    """

    def __init__(self, search: Search, queue: TrialQueue, patience: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search, self.queue, self._patience = search, queue, patience
        self._heard: dict[str, float] = {}  # when a trial last reported or was let run
        self.failures: dict[str, str] = {}  # why a trial's process last failed, by Tune's name

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the trial that gets a free actor."""
        chosen = self.queue.next()
        if chosen is not None:
            self._heard[chosen.trial_id] = time.monotonic()
        return chosen

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a new trial, or one that lost its process or machine and is tried again."""
        self.queue.add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Remember why a trial's process failed."""
        heard = self._heard.get(trial.trial_id, math.inf)
        otherwise = "its process failed"
        if time.monotonic() - heard >= self._patience:
            otherwise = f"no report for {self._patience:g} s (resources.report_seconds)"
        self.failures[trial.trial_id] = _reason(trial, otherwise)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass a report to the search, which decides whether the trial goes on.

        Every trial is ended here, even at its horizon: Tune would keep a result that says `done`
        from the scheduler. A paused trial ends for Tune as well; once promoted, it comes back as a
        new trial that finds its checkpoint.
        """
        self._heard[trial.trial_id] = time.monotonic()
        cell, number = Cell.parse(trial.config["cell"]), trial.config["number"]
        report: TrialReport = result[REPORT]
        goes_on = self._search.report(cell, number, report)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


def _reason(trial: Trial, otherwise: str) -> str:
    """Say in a line why a trial failed: what it raised, or `otherwise` if its process died."""
    if trial.error_file and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        *_, raised = ("", *(text[found.start() :] for found in RAISED.finditer(text)))
        if not raised.startswith("ray."):  # Ray's own errors describe the process, at length
            otherwise = raised or otherwise
    return f"{one_line(otherwise, 300)}; see Ray's logs"


def run_tuner(
    search: Search,
    bench: Workbench,
    checkpoints: KeptCheckpoints,
    scratch: Path,
    placement: Placement,
    slots: int,
    spare: int,
    callbacks: Sequence[ray_tune.Callback],
    patience: float = math.inf,
    trainable: type[SuffixTrial] = SuffixTrial,
) -> None:
    """Run every proposal of `search`, until it has nothing left or is closed.

    Args:
        search: proposes trials and decides about them.
        bench: what a trial needs.
        checkpoints: removed as trials end.
        scratch: a folder for Tune's own files.
        placement: what a trial takes, and where it may go.
        slots: trials that run at once, as the cluster is now.
        spare: trials proposed beyond that, which wait for machines that may join.
        callbacks: Tune's.
        patience: seconds that a trial may go without a report.
        trainable: runs a trial; benchmarks have their own.
    """
    if search.finished:
        return
    search.subscribe(checkpoints.ended)
    start_together(slots + spare)
    scheduler = CellScheduler(search, TrialQueue(placement), patience)
    trial = ray_tune.with_parameters(
        trainable,
        bench=(ray.put(bench),),
        checkpoints=checkpoints.folder,
        patience=patience,
    )
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trial, placement.request),
        tune_config=ray_tune.TuneConfig(
            search_alg=CellSearcher(search, scheduler, slots, spare),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            failure_config=ray_tune.FailureConfig(max_failures=2),
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=list(callbacks),
        ),
    )
    tuner.fit()
