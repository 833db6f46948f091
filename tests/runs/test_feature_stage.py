"""The feature stage on a real Ray: what is shared, and what images cost it."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from numpy.typing import NDArray

from data import FeatureStore, FileSource, Split, perceptual_hash
from errors import InputError
from models.loading import Pretrained
from tests.runs.stages import AUGMENTATION, BOUNDARIES, stage
from tune.features.stage import Features
from tune.features.writer import HASHES
from tune.workers.object_store import SharedSplit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.mark.parametrize("map_above", [0, 1 << 30], ids=["on disk", "in the object store"])
def test_features_are_the_encoders_and_nobody_can_write_them(
    map_above: int, photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    source = FileSource(tmp_path)
    splits = {"train": photos}
    run = stage(tmp_path / "cache", pretrained, source, map_above).run
    made = run(splits, BOUNDARIES, max_unreadable=0.5)
    shared = made.splits
    assert [Path(s.key).name for s in made.skipped] == ["2.png", "3.png"]
    assert {s.split for s in made.skipped} == {"train"}
    kept = [key for i, key in enumerate(photos.keys) if i not in (2, 3)]
    pixels = torch.stack([pretrained.preprocess(source.image(key)) for key in kept])
    expected = pretrained.encoder.features(pixels, BOUNDARIES)
    for boundary in BOUNDARIES:
        array: Any = shared["train"].features[boundary].get()
        rows = array[np.arange(len(kept))]
        np.testing.assert_allclose(rows, expected[boundary].numpy(), rtol=1e-4, atol=1e-4)
        with pytest.raises((ValueError, TypeError), match=r"read-only|does not support"):
            array[0] = 0
    assert shared["train"].labels.tolist() == [0, 1, *([0, 1] * 4)]
    content = made.contents["train"]
    assert content.split.keys == tuple(kept)
    assert content.split.digests == tuple(source.digest(key) for key in kept)
    hashes = [perceptual_hash(source.image(key)) for key in kept]
    np.testing.assert_array_equal(content.hashes, np.stack(hashes))


def test_a_restart_reads_no_image_and_a_touched_one_alone(
    photos: Split, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.features.digests.SETTLED", 0)
    cache, read, encoded = tmp_path / "cache", list[str](), list[int]()
    plain = FileSource.content

    def content(self: FileSource, key: str) -> bytes:
        read.append(Path(key).name)
        return plain(self, key)

    monkeypatch.setattr(FileSource, "content", content)
    good = photos.without([2, 3])

    def made() -> Features:
        read.clear()
        features = stage(cache, pretrained, FileSource(tmp_path), 1 << 30)
        return features.run(
            {"train": good.select(range(6)), "val": good.select(range(6, 10))},
            BOUNDARIES,
            0,
            progress=lambda done, total: encoded.append(total),
        )

    first = made()
    assert (len(read), max(encoded)) == (10, 9)
    encoded.clear()
    again = made()
    assert (read, encoded) == ([], [])
    for split in ("train", "val"):
        digests = [each.contents[split].split.digests for each in (first, again)]
        assert digests[0] == digests[1]
    time.sleep(0.05)
    Path(good.keys[7]).touch()
    assert made().contents["val"].split.digests == first.contents["val"].split.digests
    assert (read, encoded) == ([Path(good.keys[7]).name], [])


def test_images_that_are_not_needed_are_not_read(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    """The missing image is needed, the broken one only later."""
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    bursts = tuple(f"burst {row // 3}" for row in range(12))
    grouped = Split(photos.keys, photos.labels, bursts)
    encoded: list[int] = []

    def made(*rows: int) -> Features:
        encoded.clear()
        return features.run(
            {"train": grouped},
            BOUNDARIES,
            max_unreadable=0.5,
            needed={"train": np.array(rows)},
            progress=lambda done, total: encoded.append(total),
        )

    few = made(1, 3, 6, 8)
    assert max(encoded) == 3
    assert [Path(skipped.key).name for skipped in few.skipped] == ["3.png"]
    more = made(0, 1, 2, 3, 6, 8, 11)
    assert max(encoded) == 3
    assert [Path(skipped.key).name for skipped in more.skipped] == ["2.png", "3.png"]
    whole = features.run({"train": grouped}, BOUNDARIES, 0.5)
    for some, kept in ((few, [1, 6, 8]), (more, [0, 1, 6, 8, 11])):
        split, all_rows = some.splits["train"], whole.splits["train"]
        places = split.readable(np.array(kept))
        assert places.tolist() == list(range(len(kept)))
        assert (
            split.readable(np.array([1, 3, 6])).tolist()
            == split.readable(np.array([1, 6])).tolist()
        )
        assert split.labels.tolist() == grouped.labels[kept].tolist()
        assert some.contents["train"].split.groups == tuple(bursts[row] for row in kept)
        with pytest.raises(LookupError, match="row 10"):
            split.readable(np.array([1, 10]))
        for boundary in BOUNDARIES:
            array = all_rows.features[boundary].get()[all_rows.readable(np.array(kept))]
            np.testing.assert_array_equal(split.features[boundary].get(), array)


@ray.remote(num_cpus=0)
def at_once(
    cache: Path, pretrained: Pretrained, photos: Split, number: int
) -> tuple[int, dict[str, NDArray[np.float32]]]:
    """What one of two processes computes, and how much of it was missing as both began."""
    missing: list[int] = []
    features = stage(cache, pretrained, FileSource(cache.parent), 1 << 30, slots=1)
    (cache.parent / f"ready-{number}").touch()
    while len(list(cache.parent.glob("ready-*"))) < 2:
        time.sleep(0.001)
    made = features.run(
        {"train": photos}, BOUNDARIES, 0.5, progress=lambda done, total: missing.append(total)
    )
    arrays = made.splits["train"].features
    return max(missing), {boundary: arrays[boundary].get().copy() for boundary in BOUNDARIES}


def test_two_processes_at_once_on_one_cache_are_both_right(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    handle, kept = ray.put(pretrained), photos.without([2, 3])
    pixels = [pretrained.preprocess(FileSource(tmp_path).image(key)) for key in kept.keys]
    expected = pretrained.encoder.features(torch.stack(pixels), BOUNDARIES)
    work = [at_once.remote(tmp_path / "cache", handle, photos, number) for number in range(2)]
    for missing, arrays in ray.get(work):
        assert missing >= len(kept) - 1  # the last two have the same content
        for boundary in BOUNDARIES:
            want = expected[boundary].numpy()
            np.testing.assert_allclose(arrays[boundary], want, rtol=1e-4, atol=1e-4)
    assert not list((tmp_path / "cache").rglob("*.corrupt"))
    assert not list((tmp_path / "cache").rglob(".*.tmp"))


def test_one_new_image_costs_one_image(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    encoded: list[int] = []

    def count(done: int, total: int) -> None:
        encoded.append(total)

    most = Split(photos.keys[4:11], photos.labels[4:11])
    features.run({"train": most}, BOUNDARIES, 0, progress=count)
    assert set(encoded) == {7}
    encoded.clear()
    more = Split(photos.keys[1:2] + most.keys, np.append(1, most.labels))
    features.run({"train": more}, BOUNDARIES, 0, progress=count)
    assert encoded == [1]


def test_views_are_those_of_the_images_and_computed_once(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    source = FileSource(tmp_path)
    features = stage(tmp_path / "cache", pretrained, source, 1 << 30)
    encoded: list[int] = []

    def made(views: int) -> SharedSplit:
        encoded.clear()
        val = Split(photos.keys[4:6], photos.labels[4:6])
        found = features.run(
            {"train": photos, "val": val},
            BOUNDARIES,
            0.5,
            {"train": views},
            BOUNDARIES,
            progress=lambda done, total: encoded.append(total),
        )
        assert found.splits["val"].views == dict.fromkeys(BOUNDARIES, ())
        assert set(found.contents["train"].split.keys) == set(kept)
        return found.splits["train"]

    kept = [key for i, key in enumerate(photos.keys) if i not in (2, 3)]
    split = made(2)
    contents, broken = 10, 1  # the last two are the same, the missing one has none
    assert max(encoded) == 3 * contents
    for boundary in BOUNDARIES:
        assert len(split.views[boundary]) == 2
        plain = split.features[boundary].get()
        for number, array in enumerate(split.views[boundary], start=1):
            drawn = [AUGMENTATION.view(source.image(k), source.digest(k), number) for k in kept]
            pixels = torch.stack([pretrained.preprocess(image) for image in drawn])
            expected = pretrained.encoder.features(pixels, [boundary])[boundary].numpy()
            np.testing.assert_allclose(array.get(), expected, rtol=1e-4, atol=1e-4)
            assert array.get().shape == plain.shape
            assert not np.allclose(array.get(), plain, atol=1e-2)
    made(2)
    assert max(encoded) <= 3 * broken  # which has no features to keep
    made(3)
    assert max(encoded) <= contents + 3 * broken
    views = split.examples("head", views=2)
    assert (len(views), views.copies) == (10, 3)


def test_a_cache_without_hashes_gets_them(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    split = Split(photos.keys[4:10], photos.labels[4:10])
    first = features.run({"train": split}, BOUNDARIES, 0)
    (folder,) = (path for path in (tmp_path / "cache").rglob("*") if path.name == HASHES)
    shutil.rmtree(folder)
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    again = features.run({"train": split}, BOUNDARIES, 0)
    hashes = [made.contents["train"].hashes for made in (first, again)]
    np.testing.assert_array_equal(*hashes)
    for boundary in BOUNDARIES:
        arrays = [made.splits["train"].features[boundary].get() for made in (first, again)]
        np.testing.assert_array_equal(*arrays)


def test_hashes_are_computed_once_for_all_encoders(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    first = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    split = Split(photos.keys[4:10], photos.labels[4:10])
    first.run({"train": split}, BOUNDARIES, 0)
    store = FeatureStore(tmp_path / "cache", "another encoder")
    other = replace(first, caches=(replace(first.caches[0], store=store),))
    (folder,) = (tmp_path / "cache" / HASHES).iterdir()
    before = sorted(folder.iterdir())
    other.run({"train": split.select(range(4))}, BOUNDARIES, 0)
    assert sorted(folder.iterdir()) == before


def test_the_encoders_speed_is_of_this_run_or_of_the_one_that_filled_the_cache(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    source, split = FileSource(tmp_path), Split(photos.keys[4:12], photos.labels[4:12])
    first = stage(tmp_path / "cache", pretrained, source, 1 << 30)
    lower = first.run({"train": split}, ["block 11"], 0)
    assert lower.speed is None
    measured = first.run({"train": split}, BOUNDARIES, 0).speed
    assert measured is not None
    assert measured.images_per_second > 0
    again = stage(tmp_path / "cache", pretrained, source, 1 << 30)
    assert again.run({"train": split}, BOUNDARIES, 0).speed == measured


def test_too_many_broken_images_are_an_error(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    features = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    with pytest.raises(InputError, match=r"2 of the 12 train images .*max_unreadable"):
        features.run({"train": photos}, BOUNDARIES, max_unreadable=0.1)
