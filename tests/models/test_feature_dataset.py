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
many = st.integers(1, 5)


@given(sizes, seeds, many, st.integers(0, 5))
def test_an_epoch_holds_each_example_once(n: int, seed: int, copies: int, epoch: int) -> None:
    taken = ShuffleStream(n, seed, copies).take(epoch * n, n)
    assert sorted(taken % n) == list(range(n))
    assert 0 <= taken.min() <= taken.max() < n * copies


@given(sizes, seeds, st.integers(0, 90), st.integers(1, 90))
def test_one_copy_is_the_order_as_it_always_was(n: int, seed: int, start: int, count: int) -> None:
    epochs = range((start + count) // n + 1)
    stream = [np.random.default_rng((seed, epoch)).permutation(n) for epoch in epochs]
    expected = np.concatenate(stream)[start : start + count]
    np.testing.assert_array_equal(ShuffleStream(n, seed).take(start, count), expected)
    np.testing.assert_array_equal(ShuffleStream(n, seed, 1).take(start, count), expected)


@given(sizes, seeds, many, st.integers(0, 90), st.integers(1, 90))
def test_copies_change_no_example(n: int, seed: int, copies: int, start: int, count: int) -> None:
    taken = ShuffleStream(n, seed, copies).take(start, count)
    np.testing.assert_array_equal(taken % n, ShuffleStream(n, seed).take(start, count))


@given(sizes, seeds, many, st.integers(0, 90), st.integers(1, 60), st.integers(1, 60))
def test_taking_in_pieces_is_taking_at_once(
    n: int, seed: int, copies: int, start: int, one: int, other: int
) -> None:
    stream = ShuffleStream(n, seed, copies)
    pieces = [stream.take(start, one), stream.take(start + one, other)]
    # From another object, that has not been asked for anything before: a fit may be resumed.
    whole = ShuffleStream(n, seed, copies).take(start, one + other)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    np.testing.assert_array_equal(
        ShuffleStream(n, seed, copies).take(start + one, other), pieces[1]
    )
    # Going back is allowed, and changes nothing.
    np.testing.assert_array_equal(stream.take(start, one), pieces[0])


def test_copies_come_equally_often_and_to_every_example() -> None:
    n, copies, epochs = 20, 4, 600
    taken = ShuffleStream(n, 0, copies).take(0, n * epochs)
    counts = np.bincount(taken, minlength=n * copies)
    # Each of the 80 is drawn with probability 1/4 in each of 600 epochs.
    expected, deviation = epochs / copies, (epochs * 0.25 * 0.75) ** 0.5
    assert (abs(counts - expected) < 5 * deviation).all()
    # Not by turns: an example's next copy does not follow from its last one.
    first = taken.reshape(epochs, n)[taken.reshape(epochs, n) % n == 0] // n
    pairs = np.bincount(copies * first[:-1] + first[1:], minlength=copies**2)
    assert pairs.min() > 0


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


def numbered(n: int, views: int) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
    """Features that say what they are: [row, copy]."""
    arrays = [
        np.stack([np.arange(n), np.full(n, copy)], axis=1).astype(np.float32)
        for copy in range(views + 1)
    ]
    for array in arrays:
        array.flags.writeable = False
    return arrays[0], tuple(arrays[1:])


@given(st.integers(1, 20), st.integers(0, 4), st.data())
def test_a_batch_holds_the_copies_that_were_asked_for(
    n: int, views: int, data: st.DataObject
) -> None:
    features, copies = numbered(n, views)
    some = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    rows = np.array(data.draw(some), dtype=np.int64)
    examples = FeatureDataset(features, 10 * np.arange(n), rows, copies)
    assert examples.copies == views + 1
    wanted = st.lists(st.integers(0, len(rows) * (views + 1) - 1), min_size=1, max_size=30)
    positions = np.array(data.draw(wanted), dtype=np.int64)
    x, y = examples.batch(positions, CPU, torch.float32)
    assert x[:, 0].tolist() == rows[positions % len(rows)].tolist()
    assert x[:, 1].tolist() == (positions // len(rows)).tolist()
    assert y.tolist() == (10 * rows[positions % len(rows)]).tolist()
    x.zero_()
    np.testing.assert_array_equal(features, numbered(n, views)[0])
