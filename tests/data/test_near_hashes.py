"""The nearest earlier hash of another group: as comparing all pairs finds it, without doing so."""

from __future__ import annotations

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


def pairs_compared(
    monkeypatch: pytest.MonkeyPatch, hashes: NDArray[np.uint8], groups: int
) -> float:
    """Count the pairs compared for each image; their classes come in turn."""
    count = len(hashes)
    compared = 0
    pairs = data.near_hashes._Table.pairs

    def counted(*arguments):  # type: ignore[no-untyped-def]
        nonlocal compared
        for found in pairs(*arguments):
            compared += found[0].size
            yield found

    monkeypatch.setattr(data.near_hashes._Table, "pairs", counted)
    nearest_before(hashes, np.arange(count) * groups // count, MOST)
    monkeypatch.undo()
    return compared / count


@pytest.mark.parametrize("varying", [0, 16, 24, 40])
@pytest.mark.parametrize("groups", [1, 2, 10])
def test_few_pairs_are_compared_with_a_fixed_camera(
    monkeypatch: pytest.MonkeyPatch, varying: int, groups: int
) -> None:
    """Hashes that share most of their bits were all compared: 4,000 pairs for each image."""
    hashes = hashes_of(np.random.default_rng(0), 8000, varying, 1.0)
    assert pairs_compared(monkeypatch, hashes, groups) < 200


def test_four_times_the_images_take_no_four_times_the_pairs_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They did where hashes lie within 14 bits of each other, all of them."""
    few, many = (pairs_compared(monkeypatch, turned(n, 7), 10) for n in (16000, 64000))
    assert many < 2 * few


@pytest.mark.parametrize("equal", data.near_hashes.EQUAL)
def test_however_many_parts_are_equal_the_same_are_found(
    monkeypatch: pytest.MonkeyPatch, equal: int
) -> None:
    hashes, groups = turned(300, 4), np.arange(300) % 7
    monkeypatch.setattr(data.near_hashes, "EQUAL", (equal,))
    assert nearest_before(hashes, groups, MOST).tolist() == compared(hashes, groups)
