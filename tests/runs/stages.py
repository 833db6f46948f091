"""Feature stages on a pool of this machine, and photos for them."""

from __future__ import annotations

from pathlib import Path

import ray

from data import FeatureStore
from models.augmentation import Augmentation
from models.config import AugmentationConfig
from models.loading import Pretrained
from tune.features.cache import EncoderCache
from tune.features.stage import FeatureStage
from tune.features.worker import EncoderWorker
from tune.workers.actor_pool import ActorPool

BOUNDARIES = ("block 11", "head")
AUGMENTATION = Augmentation(AugmentationConfig(), (24, 24))


def stage(
    cache: Path, pretrained: Pretrained, source: object, map_above: int, slots: int = 2
) -> FeatureStage:
    pool = ActorPool({"CPU": 1}, slots=lambda _: {"here": slots})
    worker = EncoderWorker(
        pretrained=ray.put(pretrained),
        source=source,  # type: ignore[arg-type]
        augmentation=AUGMENTATION,
        batch_size=4,
        dtype="float32",
        precision="float32",
        on_a_node=pool.on_a_node,
    )
    return FeatureStage((EncoderCache(FeatureStore(cache, "test"), worker),), pool, map_above)
