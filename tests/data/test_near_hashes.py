"""The nearest earlier hash of another group: as comparing all pairs finds it, without doing so."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import data.near_hashes
from data.near_hashes import nearest_before

BYTES, MOST = 18, 4


def hashes_of(
    rng: np.random.Generator, count: int, varying: int, share: float
) -> NDArray[np.uint8]:
    """Hashes that differ in some of `varying` bits: each of those is drawn anew for a share."""
    bits = np.tile(rng.integers(0, 2, 8 * BYTES), (count, 1))
    columns = rng.choice(8 * BYTES, varying, replace=False)
    drawn = rng.random((count, varying)) < share
    bits[:, columns] ^= rng.integers(0, 2, (count, varying)) * drawn
    return np.packbits(bits.astype(np.uint8), axis=1)


def compared(hashes: NDArray[np.uint8], groups: NDArray[np.int64]) -> list[int]:
    found = []
    for row in range(len(hashes)):
        bits = np.bitwise_count(hashes[:row] ^ hashes[row]).sum(axis=1).astype(int)
        bits[groups[:row] == groups[row]] = MOST + 1
        found.append(int(bits.argmin()) if row and bits.min() <= MOST else -1)
    return found


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 80),
    varying=st.integers(1, 30),
    share=st.floats(0, 1),
    groups=st.integers(1, 4),
    turn=st.sampled_from([0, 1, -1]),
)
def test_it_is_the_one_that_comparing_all_pairs_finds(
    seed: int, count: int, varying: int, share: float, groups: int, turn: int
) -> None:
    """Whether groups are mixed, or follow each other in either order."""
    rng = np.random.default_rng(seed)
    hashes = hashes_of(rng, count, varying, share)
    labels = rng.integers(0, groups, count)
    labels = np.sort(labels)[::turn] if turn else labels
    assert nearest_before(hashes, labels, MOST).tolist() == compared(hashes, labels)


def turned(count: int, bits: int) -> NDArray[np.uint8]:
    """Hashes that differ from one hash in so many bits, whichever they are."""
    columns = np.argsort(np.random.default_rng(0).random((count, 8 * BYTES)), axis=1)[:, :bits]
    found = np.zeros((count, 8 * BYTES), np.uint8)
    np.put_along_axis(found, columns, 1, axis=1)
    return np.packbits(found, axis=1)


def work(
    monkeypatch: pytest.MonkeyPatch, hashes: NDArray[np.uint8], groups: int
) -> tuple[float, float]:
    """Count how often an image is sorted, and compared to another; classes come in turn."""
    count = len(hashes)
    done = Counter[str]()
    shared, distance = data.near_hashes._shared, data.near_hashes._Table.distance

    def sorting(table: Any, rows: Any, equal: Any) -> Any:
        done["sorted"] += rows.size
        return shared(table, rows, equal)

    def comparing(table: Any, one: Any, other: Any) -> Any:
        done["compared"] += one.size
        return distance(table, one, other)

    monkeypatch.setattr(data.near_hashes, "_shared", sorting)
    monkeypatch.setattr(data.near_hashes._Table, "distance", comparing)
    nearest_before(hashes, np.arange(count) * groups // count, MOST)
    monkeypatch.undo()
    return done["sorted"] / count, done["compared"] / count


@pytest.mark.parametrize("varying", [0, 16, 24, 40])
@pytest.mark.parametrize("groups", [1, 2, 10])
def test_few_pairs_are_compared_with_a_fixed_camera(
    monkeypatch: pytest.MonkeyPatch, varying: int, groups: int
) -> None:
    """Hashes that share most of their bits were all compared: 4,000 pairs for each image."""
    hashes = hashes_of(np.random.default_rng(0), 8000, varying, 1.0)
    taken, compared = work(monkeypatch, hashes, groups)
    assert taken < 100
    assert compared < 100


@pytest.mark.parametrize("free", [14, 10, 6, 0])
def test_eight_times_the_images_of_a_fixed_camera_take_less_work_each(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """With few free bits there are few hashes: each was sorted by up to 500 choices of bits."""
    rng = np.random.default_rng(0)
    few, many = (work(monkeypatch, hashes_of(rng, n, free, 1.0), 10) for n in (8000, 64000))
    assert sum(many) <= sum(few) < 100


def test_four_times_the_images_take_no_four_times_the_work_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They did where hashes lie within 14 bits of each other, all of them."""
    few, many = (work(monkeypatch, turned(n, 7), 10) for n in (16000, 64000))
    assert many[0] < 1.6 * few[0] < 200
    assert many[1] < 2.2 * few[1] < 200


def test_random_hashes_are_sorted_by_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (20000, BYTES), np.uint8)
    taken, compared = work(monkeypatch, hashes, 10)
    assert taken <= sum(2 + radius for radius in range(MOST + 1))
    assert compared < 1


@pytest.mark.parametrize("sorting", [0.3, 1.0])
@pytest.mark.parametrize("bits", [4, 7])
def test_however_often_they_are_divided_the_same_are_found(
    monkeypatch: pytest.MonkeyPatch, sorting: float, bits: int
) -> None:
    hashes, groups = turned(150, bits), np.arange(150) % 7
    monkeypatch.setattr(data.near_hashes, "SORTING", sorting)
    monkeypatch.setattr(data.near_hashes, "FEW", 0)
    assert nearest_before(hashes, groups, MOST).tolist() == compared(hashes, groups)
