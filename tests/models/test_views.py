"""Augmented copies in training: every example once an epoch, as a copy drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.encoder import Encoder
from models.feature_dataset import Examples, SampleOrder
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from tests.models.fits import CLASSES, clusters

CPU = torch.device("cpu")
sizes, seeds, many = st.integers(1, 30), st.integers(0, 2**32), st.integers(1, 5)


@given(sizes, seeds, many, st.integers(0, 5))
def test_an_epoch_holds_each_example_once(n: int, seed: int, copies: int, epoch: int) -> None:
    taken = SampleOrder(n, seed, copies).take(epoch * n, n)
    assert sorted(taken % n) == list(range(n))
    assert 0 <= taken.min() <= taken.max() < n * copies


@given(sizes, seeds, st.integers(0, 90), st.integers(1, 90))
def test_one_copy_is_the_order_as_it_always_was(n: int, seed: int, start: int, count: int) -> None:
    epochs = range((start + count) // n + 1)
    stream = [np.random.default_rng((seed, epoch)).permutation(n) for epoch in epochs]
    expected = np.concatenate(stream)[start : start + count]
    np.testing.assert_array_equal(SampleOrder(n, seed).take(start, count), expected)
    np.testing.assert_array_equal(SampleOrder(n, seed, 1).take(start, count), expected)


@given(sizes, seeds, many, st.integers(0, 90), st.integers(1, 90))
def test_copies_change_no_example(n: int, seed: int, copies: int, start: int, count: int) -> None:
    taken = SampleOrder(n, seed, copies).take(start, count)
    np.testing.assert_array_equal(taken % n, SampleOrder(n, seed).take(start, count))


@given(sizes, seeds, many, st.integers(0, 90), st.integers(1, 60), st.integers(1, 60))
def test_a_resumed_stream_goes_on(
    n: int, seed: int, copies: int, start: int, one: int, other: int
) -> None:
    order = SampleOrder(n, seed, copies)
    pieces = [order.take(start, one), SampleOrder(n, seed, copies).take(start + one, other)]
    whole = SampleOrder(n, seed, copies).take(start, one + other)
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_copies_come_equally_often_and_to_every_example() -> None:
    n, copies, epochs = 20, 4, 600
    taken = SampleOrder(n, 0, copies).take(0, n * epochs)
    counts = np.bincount(taken, minlength=n * copies)
    # Each of the 80 is drawn with probability 1/4 in each of 600 epochs.
    expected, deviation = epochs / copies, (epochs * 0.25 * 0.75) ** 0.5
    assert (abs(counts - expected) < 5 * deviation).all()
    # Not by turns: an example's next copy does not follow from its last one.
    first = taken.reshape(epochs, n)[taken.reshape(epochs, n) % n == 0] // n
    pairs = np.bincount(copies * first[:-1] + first[1:], minlength=copies**2)
    assert pairs.min() > 0


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
    examples = Examples(features, 10 * np.arange(n), rows, copies)
    assert examples.copies == views + 1
    wanted = st.lists(st.integers(0, len(rows) * (views + 1) - 1), min_size=1, max_size=30)
    positions = np.array(data.draw(wanted), dtype=np.int64)
    x, y = examples.batch(positions, CPU, torch.float32)
    assert x[:, 0].tolist() == rows[positions % len(rows)].tolist()
    assert x[:, 1].tolist() == (positions // len(rows)).tolist()
    assert y.tolist() == (10 * rows[positions % len(rows)]).tolist()
    x.zero_()
    np.testing.assert_array_equal(features, numbered(n, views)[0])


def with_views(n: int, views: int) -> Examples:
    first = clusters(n, 1)
    others = tuple(clusters(n, 10 + view, 0.6).features for view in range(views))
    return Examples(first.features, first.labels, first.rows, others)


def stacked(examples: Examples) -> Examples:
    """All copies as examples in their own right."""
    features = np.concatenate([examples.features, *examples.views])
    labels = np.tile(examples.labels, examples.copies)
    return Examples(features, labels, np.arange(len(labels)))


def fitted(encoder: Encoder, train: Examples, **settings: object) -> Fit:
    recipe = Recipe.model_validate({"batch_size": 10, **settings})
    data = (select(recipe, encoder), "head", train, clusters(30, 2))
    fit = Fit(encoder, *data, classes=CLASSES, horizon=300, seed=0)
    fit.train_until(300)
    return fit


@pytest.mark.parametrize("views", [1, 3])
def test_an_exact_probe_is_fitted_to_all_copies(encoder: Encoder, views: int) -> None:
    settings = {"solver": "lbfgs", "weight_decay": [1e-3, 0.1], "views": views}
    copies = with_views(30, views)
    fit = fitted(encoder, copies, **settings)
    alike = fitted(encoder, stacked(copies), **settings)
    torch.testing.assert_close(fit.model.head.weight, alike.model.head.weight, rtol=0, atol=1e-5)
    plain = fitted(encoder, clusters(30, 1), **settings)
    assert (fit.model.head.weight - plain.model.head.weight).norm() > 0.01


def test_a_trained_head_sees_the_views(encoder: Encoder) -> None:
    """The first copies are all alike, so that what is learnt comes from the others."""
    told = with_views(30, 1)
    blind = Examples(np.zeros_like(told.features), told.labels, told.rows, told.views)
    fit = fitted(encoder, blind, head_lr=0.05, views=1)
    assert fit.best is not None
    assert fit.best.val_accuracy > 0.9
