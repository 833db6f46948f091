from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data import (
    DataConfig,
    Duplicate,
    Split,
    SplitContent,
    find_duplicates,
    load_dataset,
    perceptual_hash,
)
from data.duplicates import HASH_BYTES, MAX_DISTANCE

Bits = NDArray[np.uint8]
CLASSES = ("x", "y", "z")


def scene(seed: int, side: int = 224) -> Image.Image:
    """A picture of shapes, as different from those of other seeds as photos are."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, width, height = (rng.random(4) * side * [1, 1, 0.4, 0.4]).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.ellipse((x, y, x + width, y + height), fill=colour)
    return image


def distance(one: Image.Image, other: Image.Image) -> int:
    return int(np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other)).sum())


def content(
    hashes: Sequence[Bits] | Bits,
    digests: Sequence[str],
    name: str,
    labels: Sequence[int] | None = None,
) -> SplitContent:
    keys = tuple(f"{name}{row}" for row in range(len(digests)))
    split = Split(keys, np.array(labels or [0] * len(keys)), digests=tuple(digests))
    return SplitContent(split, np.array(hashes, np.uint8).reshape(-1, HASH_BYTES))


def flipped(value: Bits, *bits: int) -> Bits:
    unpacked = np.unpackbits(value)
    unpacked[list(bits)] ^= 1
    return np.packbits(unpacked)


@pytest.mark.parametrize("seed", range(5))
def test_hashes_survive_encoding_and_scaling(seed: int) -> None:
    image = scene(seed)
    for quality in (90, 50):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        assert distance(image, Image.open(buffer).convert("RGB")) <= MAX_DISTANCE
    assert distance(image, image.resize((112, 112), Image.Resampling.LANCZOS)) <= MAX_DISTANCE
    assert distance(image, image.resize((500, 500), Image.Resampling.BICUBIC)) <= MAX_DISTANCE
    assert distance(image, scene(seed + 100)) > 10 * MAX_DISTANCE


def test_images_without_contrast_have_no_hash() -> None:
    noise = np.random.default_rng(0).integers(98, 103, (50, 70, 3), dtype=np.uint8)
    for image in (
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (9, 4), "red"),
        Image.fromarray(noise),
    ):
        assert perceptual_hash(image).tolist() == [0] * HASH_BYTES
    assert perceptual_hash(scene(0)).shape == (HASH_BYTES,)
    assert perceptual_hash(scene(0)).any()


def test_no_two_scanned_digits_are_near() -> None:
    dataset = load_dataset(DataConfig(source="digits", test_fraction=0.25))
    splits = {
        name: SplitContent(
            replace(split, digests=tuple(dataset.source.digest(key) for key in split.keys)),
            np.stack([perceptual_hash(dataset.source.image(key)) for key in split.keys]),
        )
        for name, split in (("train", dataset.train), ("test", dataset.tests["test"].split))
    }
    assert find_duplicates(splits, dataset.classes) == []


def test_content_comes_before_looks_and_the_first_image_counts() -> None:
    one, other = (perceptual_hash(scene(seed)) for seed in (0, 1))
    train = content([one, other, other, one, one], ["p", "q", "q", "r", "r"], "a")
    test = content([other, one, other], ["r", "s", "t"], "b")
    assert find_duplicates({"train": train, "test": test}, CLASSES) == [
        Duplicate("exact", "train", "a3", "test", "b0", "x", "x"),
        Duplicate("near", "train", "a0", "test", "b1", "x", "x"),
        Duplicate("near", "train", "a1", "test", "b2", "x", "x"),
        Duplicate("exact", "train", "a1", "train", "a2", "x", "x"),
        Duplicate("exact", "train", "a3", "train", "a4", "x", "x"),
    ]


def test_the_nearest_image_is_named() -> None:
    value = perceptual_hash(scene(0))
    train = content([flipped(value, 0, 50), flipped(value, 143), flipped(value, 1)], "pqr", "a")
    (found,) = find_duplicates({"train": train, "test": content([value], "s", "b")}, CLASSES)
    assert found.key_a == "a1"


def test_an_image_of_two_classes_is_listed_within_its_split_too() -> None:
    one, other = (perceptual_hash(scene(seed)) for seed in (0, 1))
    resaved = flipped(one, 5)
    train = content([one, other, one, resaved, one], "pqpst", "a", [0, 1, 1, 2, 0])
    test = content([other], "q", "b", [2])
    assert find_duplicates({"train": train, "test": test}, CLASSES) == [
        Duplicate("exact", "train", "a1", "test", "b0", "y", "z"),
        Duplicate("exact", "train", "a0", "train", "a2", "x", "y"),
        Duplicate("near", "train", "a0", "train", "a3", "x", "z"),
        Duplicate("near", "train", "a2", "train", "a4", "y", "x"),
    ]


def test_every_pair_of_splits_is_compared_and_a_split_with_itself_by_content() -> None:
    value = perceptual_hash(scene(0))
    splits = {name: content([value, value], [name, name], name) for name in ("x", "y", "z")}
    found = find_duplicates(splits, CLASSES)
    assert [(each.split_a, each.split_b) for each in found] == [
        *(("x", "y"), ("x", "y"), ("x", "z"), ("x", "z"), ("y", "z"), ("y", "z")),
        *(("x", "x"), ("y", "y"), ("z", "z")),
    ]
    assert [each.kind for each in found] == 6 * ["near"] + 3 * ["exact"]


def test_blank_images_are_near_to_none() -> None:
    value, blank = perceptual_hash(scene(0)), np.zeros(HASH_BYTES, np.uint8)
    train = content([value, blank, blank], "opq", "a")
    test = content([blank, flipped(value, 0), blank], "rsq", "b")
    assert find_duplicates({"train": train, "test": test}, CLASSES) == [
        Duplicate("near", "train", "a0", "test", "b1", "x", "x"),
        Duplicate("exact", "train", "a2", "test", "b2", "x", "x"),
    ]
    almost_blank = content([flipped(blank, 3)], ["t"], "c")
    assert find_duplicates({"train": train, "c": almost_blank}, CLASSES) == []
    assert find_duplicates({"c": almost_blank, "train": train}, CLASSES) == []


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    flips=st.lists(st.sets(st.integers(0, 8 * HASH_BYTES - 1), max_size=9), min_size=1, max_size=6),
)
def test_lookup_finds_what_comparing_all_pairs_finds(seed: int, flips: list[set[int]]) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(1, 256, (4, HASH_BYTES), dtype=np.uint8)
    probes = np.array([flipped(base[rng.integers(4)], *bits) for bits in flips])
    a, b = content(base, list("pqrs"), "a"), content(probes, list("tuvwxy")[: len(flips)], "b")
    distances = np.bitwise_count(base[:, None] ^ probes[None]).sum(axis=-1)
    assert find_duplicates({"a": a, "b": b}, CLASSES) == [
        Duplicate("near", "a", f"a{distances[:, row].argmin()}", "b", f"b{row}", "x", "x")
        for row in range(len(flips))
        if distances[:, row].min() <= MAX_DISTANCE
    ]


def test_the_digest_of_content_changes_with_images_and_their_order() -> None:
    hashes = np.zeros((2, HASH_BYTES), np.uint8)
    first, same, other, turned = (content(hashes, each, "a") for each in ("pq", "pq", "pr", "qp"))
    assert first.digest == same.digest
    assert len({first.digest, other.digest, turned.digest}) == 3
