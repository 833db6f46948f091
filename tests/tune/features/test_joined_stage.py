"""The feature stage of joined encoders: what is in the caches of each is not encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from data import FeatureStore, FileSource, Split
from models.augmentation import Augmentation
from models.config import AugmentationConfig
from models.encoder import HEAD
from models.joined import join_arrays
from models.loading import Pretrained, join_pretrained
from models.towers import split_tower
from tests.models.tiny_towers import IMAGE, native, timm
from tune.features.cache import EncoderCache
from tune.features.stage import Features, FeatureStage
from tune.features.worker import EncoderWorker

PHOTOS, UNSEEN = 20, 6


class Here(nullcontext[None]):
    """A pool that works in this process."""

    slots = on_a_node = 1

    def map(
        self, work: Callable[[Any, Any], Any], context: Any, jobs: Sequence[Any]
    ) -> Iterator[tuple[Any, Any]]:
        for job in jobs:
            yield job, work(context, job)


@dataclass(frozen=True)
class Picky:
    """Preprocesses for a tower, and fails on images whose middle is darker than that."""

    darkest: int

    def __call__(self, image: Image.Image) -> torch.Tensor:
        small = np.asarray(image.resize((IMAGE, IMAGE)), np.float32)
        if small.mean() < self.darkest:
            raise ValueError("not for this encoder")
        return torch.from_numpy(small / 255).permute(2, 0, 1)


@pytest.fixture
def parts() -> list[Pretrained]:
    """Two towers; the second cannot have dark images."""
    return [
        Pretrained(split_tower(native()), Picky(0), "one"),
        Pretrained(split_tower(timm(proj="")), Picky(60), "other"),
    ]


@pytest.fixture
def photos(tmp_path: Path) -> Split:
    """Photos, each a class of its own: the third is broken, the fourth is missing, one is dark."""
    draw = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(PHOTOS)]
    for i, path in enumerate(paths):
        pixels = draw.integers(0, 40 if i == UNSEEN else 255, (24, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    paths[3].unlink()
    return Split(tuple(map(str, paths)), np.arange(PHOTOS))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FeatureStage]:
    """What makes a stage without Ray, all of them on the same caches."""
    monkeypatch.setattr("tune.features.stage.ray.put", lambda array: array)
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: handle)
    monkeypatch.setattr("tune.workers.object_store.fetch", lambda array: array)

    def made(pretrained: Any, dtype: str = "float32", map_above: int = 1 << 30) -> FeatureStage:
        caches = tuple(
            EncoderCache(
                FeatureStore(tmp_path / "cache", f"{part.fingerprint}-{dtype}"),
                EncoderWorker(
                    pretrained=pretrained,
                    source=FileSource(tmp_path),
                    augmentation=Augmentation(AugmentationConfig(), part.size),
                    batch_size=4,
                    dtype=dtype,
                    precision="float32",
                    on_a_node=1,
                    part=number,
                ),
            )
            for number, part in enumerate(pretrained.parts)
        )
        pool: Any = Here()
        return FeatureStage(caches, pool, map_above)

    return made


def run(stage: FeatureStage, photos: Split) -> tuple[Features, int]:
    """The features of the photos and of a view of each, and how many were encoded for them."""
    encoded = [0]
    made = stage.run(
        *({"train": photos}, [HEAD], 0.5, {"train": 1}, [HEAD]),
        progress=lambda done, total: encoded.append(total),
    )
    return made, max(encoded)


def rows(features: Features, view: int, listed: NDArray[np.int64]) -> NDArray[Any]:
    split = features.splits["train"]
    array = split.views[HEAD][0] if view else split.features[HEAD]
    return array.get()[split.readable(listed)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embeddings_are_joined_from_each_encoders_own_cache(
    dtype: str, photos: Split, parts: list[Pretrained], stage: Callable[..., FeatureStage]
) -> None:
    """An image that one of them cannot have is left out, and no row has another's label."""
    alone = [run(stage(part, dtype), photos)[0] for part in parts]
    assert [len(each.skipped) for each in alone] == [2, 3]
    joined = join_pretrained(parts)
    both, encoded = run(stage(joined, dtype), photos)
    # What cannot be read has no features: the broken one, for two encoders, and the dark one.
    assert encoded <= 2 * (2 + 1)
    unreadable = {2, 3, UNSEEN}
    assert {Path(skipped.key).name for skipped in both.skipped} == {f"{i}.png" for i in unreadable}
    labels = both.splits["train"].labels
    assert labels.tolist() == [i for i in range(PHOTOS) if i not in unreadable]
    assert both.contents["train"].split.labels.tolist() == labels.tolist()
    assert len(both.contents["train"].hashes) == len(labels)
    mapped, again = run(stage(joined, dtype, map_above=0), photos)
    assert again == encoded
    for view in (0, 1):
        expected = join_arrays([rows(features, view, labels) for features in alone])
        for features in (both, mapped):
            found = rows(features, view, labels)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)
    whole = mapped.splits["train"].features[HEAD].get()
    assert (len(whole), whole.nbytes) == (len(labels), expected.nbytes)


def test_what_no_cache_has_is_encoded_once_for_each(
    photos: Split, parts: list[Pretrained], stage: Callable[..., FeatureStage]
) -> None:
    few = Split(photos.keys[8:16], photos.labels[8:16])
    both, encoded = run(stage(join_pretrained(parts)), few)
    assert encoded == 2 * 2 * len(few)
    pixels = [[part.preprocess(Image.open(key)) for key in few.keys] for part in parts]
    expected = join_arrays([
        part.encoder.features(torch.stack(each), [HEAD])[HEAD].numpy()
        for part, each in zip(parts, pixels, strict=True)
    ])  # fmt: skip
    np.testing.assert_allclose(rows(both, 0, np.arange(8)), expected, rtol=1e-4, atol=1e-5)
    for part in parts:
        assert run(stage(part), few)[1] == 0
    assert both.speed is not None
    alone = [run(stage(part), few)[0].speed for part in parts]
    assert both.speed.images_per_second < min(one.images_per_second for one in alone if one)
