"""The order is a function of (n, seed); the features are never written to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.feature_dataset import FeatureDataset, ShuffleStream

CPU = torch.device("cpu")
sizes, seeds = st.integers(1, 40), st.integers(0, 2**32)
counts = st.integers(1, 100)


@given(sizes, seeds, st.integers(0, 200), counts, counts)
def test_taking_in_pieces_is_taking_at_once(
    n: int, seed: int, start: int, one: int, other: int
) -> None:
    order = ShuffleStream(n, seed)
    pieces = [order.take(start, one), order.take(start + one, other)]
    # From another object, that has not been asked for anything before.
    whole = ShuffleStream(n, seed).take(start, one + other)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    # Going back is allowed, and changes nothing.
    np.testing.assert_array_equal(order.take(start, one), pieces[0])


@given(sizes, seeds, st.integers(0, 5))
def test_an_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    taken = ShuffleStream(n, seed).take(epoch * n, n)
    assert sorted(taken) == list(range(n))


def test_epochs_and_seeds_differ() -> None:
    orders = [ShuffleStream(100, seed).take(0, 300).reshape(3, 100) for seed in range(3)]
    assert len({tuple(epoch) for order in orders for epoch in order}) == 9


def array() -> NDArray[np.float32]:
    return np.arange(24, dtype=np.float32).reshape(6, 4)


def read_only(folder: Path) -> NDArray[np.float32]:
    found = array()
    found.flags.writeable = False
    return found


def memory_mapped(folder: Path) -> NDArray[np.float32]:
    np.save(folder / "features.npy", array())
    mapped: NDArray[np.float32] = np.load(folder / "features.npy", mmap_mode="r")
    return mapped


def writable(folder: Path) -> NDArray[np.float32]:
    return array()


@pytest.mark.parametrize("source", [read_only, memory_mapped, writable])
@pytest.mark.filterwarnings("error")
def test_a_batch_is_a_copy(source: object, tmp_path: Path) -> None:
    features = source(tmp_path)  # type: ignore[operator]
    labels = np.array([0, 1, 2, 0, 1, 2])
    examples = FeatureDataset(features, labels, np.array([5, 1, 3, 0]))
    assert len(examples) == 4
    # Consecutive positions of consecutive rows, where a slice would have been a view.
    for examples_, rows in (
        (examples, [5, 1]),
        (FeatureDataset(features, labels, np.arange(6)), [0, 1]),
    ):
        x, y = examples_.batch(np.array([0, 1]), CPU, torch.float32)
        assert x.tolist() == array()[rows].tolist()
        assert y.tolist() == labels[rows].tolist()
        x.zero_().sub_(1)
        y.sub_(7)
    np.testing.assert_array_equal(features, array())
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])


def test_features_are_cast_and_labels_are_not() -> None:
    examples = FeatureDataset(array().astype(np.float16), np.zeros(6, np.int64), np.arange(6))
    x, y = examples.batch(np.array([2]), CPU, torch.float64)
    assert x.dtype == torch.float64
    assert y.dtype == torch.int64
