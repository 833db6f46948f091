"""Feature stages on a pool of this machine, and photos for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray
from PIL import Image

from data import FeatureStore, Split
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


def twelve_photos(tmp_path: Path) -> Split:
    """Twelve photos: the last two of the same content, the third broken, the fourth missing."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)
    paths[11].write_bytes(paths[10].read_bytes())
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    paths[3].unlink()
    return Split(tuple(map(str, paths)), np.arange(12) % 2)
