"""Fits of an experiment without Ray, which the benchmarks share."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from data import Split, cache_root, derived_seed, load_dataset, partition_rows
from models import (
    HEAD,
    PIXELS,
    Augmentation,
    Device,
    FeatureDataset,
    Fit,
    LinearHead,
    Recipe,
    select,
)
from partitions import Partition
from search_spaces import Experiment, Params
from tune.setup import load_encoder

BATCH = 64  # images in one pass
Arrays = dict[str, NDArray[np.generic]]


class Laboratory:
    """An experiment's features in memory, and fits on them with the seeds of a run.

    Args:
        experiment: gives the data, the encoder and the horizons.
        configs: all configurations to fit; features are kept at their boundaries and the head's.
        splits: the splits to encode, of train, val and test.
    """

    def __init__(
        self, experiment: Experiment, configs: Iterable[Params], splits: Collection[str]
    ) -> None:
        configs = list(configs)
        self.experiment = experiment
        self.dataset = load_dataset(experiment.data)
        cache = cache_root(experiment.features.cache)
        self._pretrained = load_encoder(experiment, self.dataset, cache)
        self.encoder = self._pretrained.encoder
        self._device = Device("cpu", experiment.model.precision)
        self._splits = {
            "train": self.dataset.train,
            "val": self.dataset.val,
            "test": self.dataset.tests["test"].split,
        }
        boundaries = self._boundaries(configs) | {HEAD}
        self._features = {name: self._encoded(self._splits[name], boundaries) for name in splits}
        augmented = [config for config in configs if config.get("views")]
        boundaries = self._boundaries(augmented)
        self._views = [
            self._encoded(self.dataset.train, boundaries, view)
            for view in range(1, 1 + max((config["views"] for config in augmented), default=0))
        ]

    def _boundaries(self, configs: Iterable[Params]) -> set[str]:
        return {select(Recipe(**config), self.encoder).boundary for config in configs}

    def _encoded(self, split: Split, boundaries: Collection[str], view: int = 0) -> Arrays:
        """Return the features of a split, in float16 below the embedding to save memory."""
        source = self.dataset.source
        _, height, width = self.encoder.shapes[PIXELS]
        augmentation = Augmentation(self.experiment.augmentation, (height, width))
        parts: dict[str, list[NDArray[np.generic]]] = {boundary: [] for boundary in boundaries}
        for begin in range(0, len(split), BATCH):
            images = []
            for key in split.keys[begin : begin + BATCH]:
                image = source.image(key)
                if view:
                    image = augmentation.view(image, source.digest(key), view)
                images.append(self._pretrained.preprocess(image))
            with self._device.autocast():
                crossed = self.encoder.features(torch.stack(images), boundaries)
            for boundary, x in crossed.items():
                kept = np.float32 if boundary == HEAD else np.float16
                parts[boundary].append(x.float().numpy().astype(kept))
        return {boundary: np.concatenate(arrays) for boundary, arrays in parts.items()}

    def examples(self, name: str, boundary: str) -> FeatureDataset:
        """Return all examples of a split."""
        labels = self._splits[name].labels
        return FeatureDataset(self._features[name][boundary], labels, np.arange(len(labels)))

    def rows(self, partition: Partition, seed: int) -> NDArray[np.int64]:
        """Return the rows of train that a run draws for a partition and a final seed."""
        labels, groups = self.dataset.train.labels, self.dataset.train.group_ids
        return partition_rows(labels, groups, partition, self.experiment.seed, seed)

    def fit(
        self,
        config: Params,
        method: str,
        partition: Partition,
        start: LinearHead | None = None,
        seed: int = 0,
        average: bool = False,
    ) -> Fit:
        """A fit as a run makes it (`TrialContext.fit`), judged by all validation images.

        Raises:
            ValueError: the configuration asks for more views than were encoded.
        """
        recipe = Recipe(**config)
        if recipe.views > len(self._views):
            raise ValueError(f"{len(self._views)} views were encoded, not {recipe.views}")
        if recipe.start != "probe":
            start = self._pretrained.zero_shot if recipe.start == "zero_shot" else None
        selection = select(recipe, self.encoder)
        boundary = selection.boundary
        views = tuple(view[boundary] for view in self._views[: recipe.views])
        train, rows = self.examples("train", boundary), self.rows(partition, seed)
        return Fit(
            self.encoder,
            selection,
            boundary,
            FeatureDataset(train.features, train.labels, rows, views),
            self.examples("val", boundary),
            classes=len(self.dataset.classes),
            horizon=self.experiment.horizon(method, len(rows)),
            seed=derived_seed(self.experiment.seed, seed, "order"),
            start=start,
            average=average,
            device=self._device,
        )

    def probe(self, partition: Partition, seed: int = 0) -> LinearHead:
        """Return the head that fits start from: the default of the experiment's first probe.

        Raises:
            ValueError: the experiment has no probe.
        """
        method = self.experiment.probe
        if method is None:
            raise ValueError("no method is a probe; needed is one with blocks: none")
        config = self.experiment.methods[method].parsed.first()
        fit = self.fit(config, method, partition, seed=seed)
        for share in (1 / 3, 2 / 3, 1) if fit.recipe.takes_steps else (1,):
            fit.train_until(round(share * fit.horizon))
        return fit.restore_best()
