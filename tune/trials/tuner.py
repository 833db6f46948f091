"""The search, as one Tuner sees it: a searcher, a scheduler, and the run between them."""

from __future__ import annotations

import math
import os
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

from errors import InputError, one_line
from records import Cell, TrialReport
from tune.search.search import Search
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.trainable import REPORT, SCORE, SuffixTrial
from tune.trials.trial_context import Workbench
from tune.workers.cluster import NO_MACHINE, LostMachines
from tune.workers.placement import Placement

# Tune's own snapshots and per-trial logs are not read by anyone: the journal is the run's state.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours to handle
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # a trial's reason is in the journal
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b", re.MULTILINE)
PATIENCE = 120.0  # seconds; an actor not up by then waits for a machine that has gone


class _NoSnapshot:
    """Pickles as nothing, where Tune saves what it will never need: the journal is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class CellSearcher(_NoSnapshot, Searcher):
    """Hands out `Search`'s proposals. Tune unwraps a searcher's attribute named `searcher`.

    Args:
        search: proposes.
        scheduler: knows how many trials wait for an actor. They were proposed early, and so know
            less than they might.
        slots: so many trials are out at once,
        spare: or so many wait, for machines that may yet come.
    """

    def __init__(
        self, search: Search, scheduler: CellScheduler, slots: int, spare: int = 0
    ) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._search, self._scheduler = search, scheduler
        self._slots, self._spare = slots, spare
        self._out: dict[str, tuple[Cell, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        enough = len(self._out) >= self._slots and self._scheduler.waiting >= self._spare
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
            "anywhere": self._scheduler.crowded(proposal.config),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        cell, number = self._out.pop(trial_id)
        if error:
            self._search.end(cell, number, "failed", self._scheduler.failures.pop(trial_id, ""))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its journal")


class CellScheduler(_NoSnapshot, FIFOScheduler):
    """Passes every result to the search.

    Args:
        search: decides.
        placement: what a trial takes, and where it may go.
        patience: seconds after which a trial without a report ends its process.
    """

    def __init__(self, search: Search, placement: Placement, patience: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search, self._placement, self._patience = search, placement, patience
        self._heard: dict[str, float] = {}  # when a trial last reported or was let run
        self._machines = LostMachines(dict(placement.slot))
        self.failures: dict[str, str] = {}  # why a trial's process last failed, by Tune's name
        self._alive: list[tuple[float, Trial]] = []  # since when they wait or waited, oldest first

    @property
    def waiting(self) -> int:
        """Trials that wait for an actor, wherever one comes free."""
        return len(self._pending()) - self._choosy

    @property
    def _choosy(self) -> int:
        """Trials that wait for some machines."""
        return sum(not self._anywhere(trial) for _, trial in self._pending())

    def _anywhere(self, trial: Trial) -> bool:
        asked = trial.config
        return bool(asked["anywhere"]) or self._placement.nodes(asked["config"]) is None

    def crowded(self, config: dict[str, Any]) -> bool:
        """Whether a new trial had better go anywhere, as those it would go to have enough."""
        return self._placement.crowded(config, self._choosy)

    def _pending(self) -> list[tuple[float, Trial]]:
        states = (Trial.PENDING, Trial.RUNNING)
        self._alive = [pair for pair in self._alive if pair[1].status in states]
        return [pair for pair in self._alive if pair[1].status == Trial.PENDING]

    # A freed actor is given the trial chosen here, and the one that is starting for that trial is
    # killed. By Tune's own choice, the oldest, that is the one nearest to being up: of 16 slots on
    # two cores, three were ever used. For the newest none has been asked yet.
    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        pending = self._pending()
        self._machines.check(all_wait=bool(pending) and len(pending) == len(self._alive))
        if not pending:
            return None
        since, oldest = pending[0]
        waited = time.monotonic() - since
        if waited > NO_MACHINE and self._lost(oldest):
            raise InputError(
                f"--address: no machine with enough GPU memory for a trial for {NO_MACHINE:g} s; "
                "what was done is kept: --resume goes on with the machines that are left"
            )
        chosen = oldest if waited > PATIENCE else pending[-1][1]
        self._heard[chosen.trial_id] = time.monotonic()
        return chosen

    def _lost(self, trial: Trial) -> bool:
        return not trial.config["anywhere"] and self._placement.lost(trial.config["config"])

    # Also called with a trial whose process or machine was lost, and which is tried again.
    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._alive = [pair for pair in self._alive if pair[1] is not trial]
        self._alive.append((time.monotonic(), trial))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        heard = self._heard.get(trial.trial_id, math.inf)
        told = "its process failed"
        if time.monotonic() - heard >= self._patience:
            told = f"no report for {self._patience:g} s (resources.report_seconds)"
        self.failures[trial.trial_id] = _reason(trial, told)

    # Every trial ends by a decision taken here, the one that reached its horizon too: results
    # that say `done` would be kept from the scheduler. To Tune a paused trial has ended as well:
    # promoted, it comes back as a new one that finds its checkpoint.
    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._heard[trial.trial_id] = time.monotonic()
        cell, number = Cell.parse(trial.config["cell"]), trial.config["number"]
        report: TrialReport = result[REPORT]
        goes_on = self._search.report(cell, number, report)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


def _reason(trial: Trial, told: str) -> str:
    """Why a trial failed, in a line: what it raised, or what is told of one whose process died."""
    if trial.error_file and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        *_, raised = ("", *(text[found.start() :] for found in RAISED.finditer(text)))
        if not raised.startswith("ray."):  # those tell of the process, at length
            told = raised or told
    return f"{one_line(told, 300)}; see Ray's logs"


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
    """Run every proposal of `search`; returns when it has nothing left, or was closed.

    Args:
        placement: what a trial takes, and where it may go.
        slots: trials that fit at once, as the cluster is now.
        spare: trials proposed beyond them, which take up machines that join later.
        patience: seconds a trial may go without a report.
        trainable: benchmarks watch trials, or let them sleep.
    """
    if search.finished:
        return
    search.on_end = checkpoints.ended
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots + spare)  # all actors start side by side
    scheduler = CellScheduler(search, placement, patience)
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
