"""What a worker needs to run any fit of an experiment, in the search or after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from data import Draws, derived_seed
from models.config import PrecisionName
from models.device import Device
from models.encoder import Encoder
from models.fit import Fit
from models.head import LinearHead
from models.loading import Pretrained
from models.recipe import Recipe
from models.selection import select
from models.solvers import SOLVERS, Solver
from partitions import Partition
from records import Cell
from search_spaces import Experiment
from tune.search.schedulers import SCHEDULERS, Scheduler, milestones, rung_milestones
from tune.storage.storage import Storage
from tune.trials.probe_heads import KeptHead
from tune.workers.object_store import SharedSplit, fetch
from tune.workers.own_device import own_device
from tune.workers.own_parts import own_solvers

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrialContext:
    """Handles to the shared objects, and the experiment; a few kilobytes when pickled.

    It holds no test split, so that no search can see one. `run_fingerprint` names the run's data
    and prompts, `precision` is resolved (not `auto`). `images` counts each partition's training
    images as the search plans with them: where some cannot be read, a fit has fewer. `draws` says
    which. `kept_heads` is where heads of probes are kept; without it each process solves its own.
    """

    experiment: Experiment
    pretrained: ray.ObjectRef[Pretrained]
    run_fingerprint: str
    precision: PrecisionName
    classes: tuple[str, ...]
    train: SharedSplit
    val: SharedSplit
    images: Mapping[Partition, int]
    draws: Draws
    kept_heads: Storage | None = None
    scheduler: type[Scheduler] = field(init=False)
    solvers: Mapping[str, Solver] = field(init=False)

    def __post_init__(self) -> None:
        """Take along the user's own parts: workers have not run the program that adds them."""
        object.__setattr__(self, "scheduler", SCHEDULERS[self.experiment.search.scheduler])
        object.__setattr__(self, "solvers", own_solvers())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in a worker, where recipes may then name the user's own solvers."""
        self.__dict__.update(state)
        SOLVERS.update(self.solvers)

    def fit(
        self,
        cell: Cell,
        config: Mapping[str, Any],
        probe: Mapping[str, Any] | None,
        seed: int,
        searching: bool = False,
    ) -> Fit:
        """Return a fit of `config` on the cell's partition, ready for its first step.

        Seed 0 is the search's; each seed has its own draw of the partition and its own order of
        samples. `probe` holds the settings of the probe to start from, which is refitted here with
        the same seed. One that is `searching` is judged by `search.val_images` at most.
        """
        recipe = Recipe(**config)
        start = None
        if recipe.start == "probe" and probe is not None:
            start = _probe_head(self, cell.partition, Recipe(**probe), seed)
        elif recipe.start == "zero_shot":
            start = self._pretrained.zero_shot
        judges = self.val_rows(cell.partition, seed)
        if searching:
            judges = self.judging_rows(cell.partition, seed)
        boundary, resources = self.boundary(recipe), self.experiment.resources
        return Fit(
            self.encoder,
            select(recipe, self.encoder),
            boundary,
            self.train.examples(boundary, self.rows(cell.partition, seed), recipe.views),
            self.val.examples(boundary, judges),
            classes=len(self.classes),
            horizon=self.experiment.horizon(cell.method, self.images[cell.partition]),
            seed=derived_seed(self.experiment.seed, seed, "order"),
            start=start,
            average=self.experiment.final.ema and not recipe.frozen_encoder,
            metric=self.experiment.metric,
            device=Device(own_device(resources.deterministic), self.precision),
            cuda_graph=resources.cuda_graph,
        )

    @property
    def encoder(self) -> Encoder:
        """This process's copy of the encoder."""
        return self._pretrained.encoder

    @property
    def _pretrained(self) -> Pretrained:
        pretrained: Pretrained = fetch(self.pretrained)
        return pretrained

    def rows(self, partition: Partition, seed: int) -> Rows:
        """Find the features of the training images that a partition has for a seed."""
        return self.train.readable(self.draws.rows(partition, seed))

    def val_rows(self, partition: Partition, seed: int) -> Rows:
        """Find the features of the validation images that a partition is judged by for a seed."""
        return self.val.readable(self.draws.val_rows(partition, seed))

    def judging_rows(self, partition: Partition, seed: int) -> Rows:
        """Find the features of the images that a partition is judged by in a search."""
        most = self.experiment.search.val_images
        return self.val.readable(self.draws.judging_rows(partition, seed, most))

    def judges_are_few(self, partition: Partition) -> bool:
        """Say whether the search judges a partition by some of the validation images alone."""
        return len(self.judging_rows(partition, 0)) < len(self.val_rows(partition, 0))

    def boundary(self, recipe: Recipe) -> str:
        """Return where a fit of the recipe is fed: all that it trains on is cached there."""
        cached = self.train.views if recipe.views else self.train.features
        return select(recipe, self.encoder).fed_from(cached)

    def milestones(self, cell: Cell, fit: Fit) -> tuple[int, ...]:
        """Return the samples at which a cell's fit is evaluated: once, if it takes no steps."""
        search, images = self.experiment.search, self.images[cell.partition]
        trained = fit.recipe.takes_steps
        return milestones(fit.horizon, search, images, trained, self.scheduler)

    def rungs(self, cell: Cell, fit: Fit) -> frozenset[int]:
        """Return the milestones at which the search may pause or end a trial; the last is one."""
        search, images = self.experiment.search, self.images[cell.partition]
        return frozenset(rung_milestones(fit.horizon, search, images, self.scheduler))

    def run(self, cell: Cell, fit: Fit) -> None:
        """Train a cell's fit through the milestones before it, or until it diverges."""
        for milestone in self.milestones(cell, fit):
            if milestone <= fit.samples:
                continue  # a fit that was taken up where another process left it
            if not fit.train_until(milestone).finite:
                break


@lru_cache(maxsize=16)  # heads of 5,000 classes take 10 MB each
def _probe_head(
    context: TrialContext, partition: Partition, probe: Recipe, seed: int
) -> LinearHead | None:
    """Find the head of a partition's probe, refitted with the seed, or as another process did.

    None if the fit diverged.
    """
    method = context.experiment.probe
    assert method is not None
    cell = Cell(partition, method)
    fit = context.fit(cell, probe.model_dump(), None, seed, searching=True)  # few judges will do

    def solve() -> LinearHead | None:
        context.run(cell, fit)
        return fit.restore_best() if fit.best else None

    if context.kept_heads is None:
        return solve()
    return KeptHead(context.kept_heads, _probe_key(context, cell, fit, seed)).solved(solve)


def _probe_key(context: TrialContext, cell: Cell, fit: Fit, seed: int) -> str:
    """Name all that a probe's head follows from."""
    experiment, milestones = context.experiment, context.milestones(cell, fit)
    judged = [experiment.metric, experiment.search.val_images, milestones, fit.horizon]
    computed = [context.precision, experiment.resources.deterministic]
    drawn = [context.run_fingerprint, experiment.seed, str(cell), seed]
    return json.dumps([fit.recipe.model_dump(mode="json"), *drawn, *judged, *computed])
