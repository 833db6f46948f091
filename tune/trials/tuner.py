"""The search, as one Tuner runs it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import ray
from ray import tune as ray_tune

from tune.search.search import Search
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.scheduler import CellScheduler, CellSearcher
from tune.trials.trainable import SuffixTrial
from tune.trials.trial_context import TrialContext
from tune.workers.machines import BarredMachines, LostMachines
from tune.workers.placement import Placement, TrialQueue
from tune.workers.survey import Admission


def run_tuner(
    search: Search,
    context: TrialContext,
    checkpoints: KeptCheckpoints,
    scratch: Path,
    placement: Placement,
    slots: int,
    spare: int,
    callbacks: Sequence[ray_tune.Callback],
    patience: float = math.inf,
    trainable: type[SuffixTrial] = SuffixTrial,
    admission: Admission | None = None,
    barred: BarredMachines | None = None,
) -> None:
    """Run every proposal of `search`, until it has nothing left or is closed.

    As the cluster is now, `slots` trials run at once; `spare` ones are proposed beyond that, and
    wait for machines that may join. `scratch` is a folder for Tune's own files. A trial may go
    without a report for `patience` seconds. Benchmarks have their own `trainable`. Machines that
    join are asked by the `admission`; those found unfit are `barred`.
    """
    if search.finished:
        return
    search.subscribe(checkpoints.ended)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots + spare)  # actors started side by side
    barred = barred or BarredMachines()
    queue = TrialQueue(placement, lost=LostMachines(placement.slot, barred.slots_at))
    scheduler = CellScheduler(search, queue, patience, barred)
    trial = ray_tune.with_parameters(
        trainable,
        context=(ray.put(context),),
        checkpoints=checkpoints.folder,
        patience=patience,
        admission=admission,
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
            failure_config=ray_tune.FailureConfig(max_failures=-1),
            checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=list(callbacks),
        ),
    )
    tuner.fit()
