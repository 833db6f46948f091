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


def pairs_compared(monkeypatch: pytest.MonkeyPatch, count: int, varying: int, groups: int) -> float:
    """Count the pairs compared for each image of a fixed camera, whose classes come in turn."""
    compared = 0
    pairs = data.near_hashes._Table.pairs

    def counted(*arguments):  # type: ignore[no-untyped-def]
        nonlocal compared
        for found in pairs(*arguments):
            compared += found[0].size
            yield found

    monkeypatch.setattr(data.near_hashes._Table, "pairs", counted)
    hashes = hashes_of(np.random.default_rng(0), count, varying, 1.0)
    nearest_before(hashes, np.arange(count) * groups // count, MOST)
    monkeypatch.undo()
    return compared / count


@pytest.mark.parametrize("varying", [0, 16, 24, 40])
@pytest.mark.parametrize("groups", [1, 2, 10])
def test_few_pairs_are_compared_with_a_fixed_camera(
    monkeypatch: pytest.MonkeyPatch, varying: int, groups: int
) -> None:
    """Hashes that share most of their bits were all compared: 4,000 pairs for each image."""
    assert pairs_compared(monkeypatch, 8000, varying, groups) < 200
