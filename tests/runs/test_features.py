"""The feature stage on a real Ray: what is shared, and what images cost it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from PIL import Image

from data import FeatureStore, Split, load_dataset
from data.sources import FileSource
from errors import InputError
from models.loading import ModelConfig, Pretrained, load_pretrained
from tests.runs.helpers import small
from tune.features import FeatureStage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
BOUNDARIES = ("block 11", "head")


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(ModelConfig())


def stage(cache: Path, pretrained: Pretrained, source: object, map_above: int) -> FeatureStage:
    return FeatureStage(
        store=FeatureStore(cache, "test"),
        pretrained=ray.put(pretrained),
        source=source,  # type: ignore[arg-type]
        slot={"CPU": 1},
        slots=2,
        batch_size=4,
        dtype="float32",
        precision="float32",
        map_above=map_above,
    )


@pytest.fixture
def photos(tmp_path: Path) -> Split:
    """Twelve photos: the last two of the same content, the third broken, the fourth missing."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)
    paths[11].write_bytes(paths[10].read_bytes())
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    paths[3].unlink()
    return Split(tuple(map(str, paths)), np.arange(12) % 2)


@pytest.mark.parametrize("map_above", [0, 1 << 30], ids=["mapped from disk", "in the object store"])
def test_features_are_the_encoders_and_nobody_can_write_them(
    map_above: int, photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    source = FileSource(tmp_path)
    splits = {"train": photos}
    run = stage(tmp_path / "cache", pretrained, source, map_above).run
    shared, skipped = run(splits, BOUNDARIES, max_unreadable=0.5)
    assert [Path(s.key).name for s in skipped] == ["2.png", "3.png"]
    kept = [key for i, key in enumerate(photos.keys) if i not in (2, 3)]
    pixels = torch.stack([pretrained.preprocess(source.image(key)) for key in kept])
    expected = pretrained.encoder.features(pixels, BOUNDARIES)
    for boundary in BOUNDARIES:
        array = shared["train"].features[boundary].get()
        np.testing.assert_allclose(array, expected[boundary].numpy(), rtol=1e-4, atol=1e-4)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert shared["train"].labels.tolist() == [0, 1, *([0, 1] * 4)]


def test_one_new_image_costs_one_image(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    encoded: list[int] = []

    def count(done: int, total: int) -> None:
        encoded.append(total)

    most = Split(photos.keys[4:11], photos.labels[4:11])
    features.run({"train": most}, BOUNDARIES, 0, count)
    assert set(encoded) == {7}
    encoded.clear()
    more = Split(photos.keys[1:2] + most.keys, np.append(1, most.labels))
    features.run({"train": more}, BOUNDARIES, 0, count)
    assert encoded == [1]


def test_too_many_broken_images_are_an_error(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    with pytest.raises(InputError, match=r"2 of 12 train images are unreadable .*max_unreadable"):
        features.run({"train": photos}, BOUNDARIES, max_unreadable=0.1)


def test_a_class_that_lost_all_its_images_is_an_error(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    two = Split(photos.keys[2:4] + photos.keys[4:5], np.array([1, 1, 0]))
    with pytest.raises(InputError, match="every class needs one"):
        features.run({"train": two}, BOUNDARIES, max_unreadable=1)


def test_trials_hold_no_test_split() -> None:
    from tune.bench import Workbench

    experiment = small()
    assert "test" not in Workbench.__dataclass_fields__
    assert load_dataset(experiment.data).test  # which exists, elsewhere
