"""The search, as one Tuner sees it: a searcher, a scheduler, and the run between them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune.bench import Workbench
from tune.checkpoints import KeptCheckpoints
from tune.groups import Group
from tune.search import Search
from tune.trainable import SuffixTrial

# Tune's own snapshots and per-trial logs are not read by anyone: the journal is the run's state.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours to handle
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

REPORTED = (
    *("milestone", "samples", "steps", "train_loss", "val_accuracy", "val_loss", "score"),
    *("prospect", "weight_distance", "diverged", "seconds", "node"),
)
NESTED = "chosen/"  # Tune flattens what a trial nests


class _NoSnapshot:
    """Pickles as nothing, where Tune saves what it will never need: the journal is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class GroupedSearcher(_NoSnapshot, Searcher):
    """Hands out `Search`'s proposals. Tune unwraps a searcher's attribute named `searcher`."""

    def __init__(self, search: Search) -> None:
        super().__init__(metric="score", mode="max")
        self._search = search
        self._running: dict[str, tuple[Group, int]] = {}

    def suggest(self, trial_id: str) -> Any:
        proposal = self._search.propose()
        if proposal is None:
            return Searcher.FINISHED if self._search.finished else None
        self._running[trial_id] = (proposal.group, proposal.number)
        return {
            "group": str(proposal.group),
            "number": proposal.number,
            "config": proposal.config,
            "probe": proposal.probe,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        group, number = self._running.pop(trial_id)
        if error:
            self._search.end(group, number, "failed", "its process failed; see Ray's logs")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a run is resumed from its journal")


class GroupedScheduler(_NoSnapshot, FIFOScheduler):
    """Passes every result to the search."""

    def __init__(self, search: Search) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search = search

    # Every trial ends by a decision taken here, the one that reached its horizon too: results
    # that say `done` would be kept from the scheduler. To Tune a paused trial has ended as well:
    # promoted, it comes back as a new one that finds its checkpoint.
    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        group, number = Group.parse(trial.config["group"]), trial.config["number"]
        goes_on = self._search.report(group, number, _as_reported(result))
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


def _as_reported(result: dict[str, Any]) -> dict[str, Any]:
    """The trial's own report, out of what Tune made of it."""
    report = {key: result[key] for key in REPORTED}
    chosen = {k.removeprefix(NESTED): v for k, v in result.items() if k.startswith(NESTED)}
    return report | {"chosen": chosen} if chosen else report


def run_tuner(
    search: Search,
    bench: Workbench,
    checkpoints: KeptCheckpoints,
    scratch: Path,
    slot: dict[str, float],
    slots: int,
    callbacks: Sequence[tune.Callback],
) -> None:
    """Run every proposal of `search`; returns when it has nothing left, or was closed."""
    if search.finished:
        return
    search.on_end = checkpoints.ended
    # How many trials may wait for an actor. One a time fills 64 slots too slowly; each of them is
    # proposed early, and so knows less.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, slots // 4))
    trainable = tune.with_parameters(
        SuffixTrial, bench=(ray.put(bench),), checkpoints=checkpoints.folder
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, slot),
        tune_config=tune.TuneConfig(
            search_alg=GroupedSearcher(search),
            scheduler=GroupedScheduler(search),
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=list(callbacks),
        ),
    )
    tuner.fit()
