"""What a worker needs to run any fit of an experiment, in the search or after it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray

from data import partition_indices
from models.encoder import Encoder
from models.examples import Examples
from models.fit import Evaluation, Fit
from models.head import LinearHead
from models.loading import Pretrained
from models.precision import Precision, PrecisionName, available_device
from models.recipe import Recipe
from tune.experiment import Experiment
from tune.groups import Group
from tune.rungs import milestones
from tune.sharing import SharedSplit, fetch


@dataclass(frozen=True, eq=False)
class Workbench:
    """Handles to the shared objects, and the experiment; a few kilobytes when pickled.

    It holds no test split: what searches cannot see one. `identity` names the run's data and
    weights, `precision` is resolved (not `auto`).
    """

    experiment: Experiment
    pretrained: ray.ObjectRef[Pretrained]
    identity: str
    precision: PrecisionName
    classes: int
    train: SharedSplit
    val: SharedSplit

    def fit(
        self, group: Group, config: Mapping[str, Any], probe: Mapping[str, Any] | None, seed: int
    ) -> Fit:
        """A fit of `config` on the group's partition, ready for its first step.

        Args:
            config: a recipe's settings.
            probe: the settings of the probe to start from, refitted here with the same seed.
            seed: 0 for the search; each seed has its own draw of the partition and its own order
                of samples.
        """
        recipe = Recipe(**config)
        start = None
        if recipe.head_start == "probe" and not recipe.frozen_encoder and probe is not None:
            start = _probe_head(self, group.partition, tuple(sorted(probe.items())), seed)
        encoder = self.encoder
        boundary = self.boundary(recipe, encoder)
        rows = self.rows(group.partition, seed)
        return Fit(
            encoder,
            recipe,
            boundary,
            Examples(self.train.features[boundary].get(), self.train.labels, rows),
            self.examples(self.val, boundary),
            classes=self.classes,
            horizon=self.experiment.horizon(group.method),
            seed=derived_seed(self.experiment.seed, seed, "order"),
            start=start,
            precision=Precision(available_device(), self.precision),
        )

    @property
    def encoder(self) -> Encoder:
        """This process's copy of the encoder."""
        pretrained: Pretrained = fetch(self.pretrained)
        return pretrained.encoder

    def rows(self, partition: float, seed: int) -> np.typing.NDArray[np.int64]:
        """The training images of a partition, as drawn for a seed; nested over partitions."""
        draw = derived_seed(self.experiment.seed, seed, "partition")
        return partition_indices(self.train.labels, partition, draw)

    def examples(self, split: SharedSplit, boundary: str) -> Examples:
        """All of a split."""
        return Examples(split.features[boundary].get(), split.labels, np.arange(len(split)))

    def boundary(self, recipe: Recipe, encoder: Encoder) -> str:
        """The highest cached boundary at or below the recipe's own."""
        limit = encoder.index(recipe.boundary(encoder))
        cached = [encoder.index(boundary) for boundary in self.train.features]
        return encoder.boundaries[max(i for i in cached if i <= limit)]

    def run(self, fit: Fit, method: str) -> list[Evaluation]:
        """Advance a fit through all of its method's milestones, or until it diverges."""
        evaluations = []
        for milestone in milestones(self.experiment.horizon(method), self.experiment.search):
            evaluations.append(fit.advance(milestone))
            if not evaluations[-1].finite:
                break
        return evaluations


def derived_seed(seed: int, final_seed: int, purpose: str) -> int:
    """One of several independent seeds that follow from the experiment's."""
    entropy = [seed, final_seed, zlib.crc32(purpose.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@lru_cache(maxsize=64)
def _probe_head(
    bench: Workbench, partition: float, probe: tuple[tuple[str, Any], ...], seed: int
) -> LinearHead | None:
    """The head of a partition's probe: refitted, which on cached embeddings takes a moment.

    It needs no file and no checkpoint, so a trial can start wherever it is placed.
    """
    method = bench.experiment.probe
    assert method is not None
    fit = bench.fit(Group(partition, method), dict(probe), None, seed)
    bench.run(fit, method)
    return fit.restore_best() if fit.best else None
