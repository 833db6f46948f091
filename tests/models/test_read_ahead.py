"""Rows on disk that are read before they are wanted: the same rows, and no more of them."""

from __future__ import annotations

import gc
import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.encoder import Encoder
from models.feature_dataset import FeatureDataset, ReadAhead, Rows, ShuffleStream
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from tests.models.fits import CLASSES, assert_same, clusters, images, weights
from tests.models.tiny_towers import at

CPU = torch.device("cpu")


class OnDisk:
    """Stands in for rows on disk; notes which were read, and by whom."""

    def __init__(self, array: Rows) -> None:
        self.array = array
        self.read: list[tuple[str, list[int]]] = []
        self.arrived = threading.Semaphore(0)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        here = threading.current_thread() is threading.main_thread()
        self.read.append(("asked" if here else "ahead", rows.tolist()))
        self.arrived.release()
        return self.array[rows]

    @property
    def ahead(self) -> list[list[int]]:
        return [rows for who, rows in self.read if who == "ahead"]


def test_what_was_announced_is_read_before_it_is_asked_for() -> None:
    disk = OnDisk(np.arange(10.0))
    rows = ReadAhead(disk)
    rows.announce(np.array([7, 2, 2, 5]))
    assert disk.arrived.acquire(timeout=30)
    assert rows[np.array([2, 5])].tolist() == [2, 5]  # a portion of a batch
    assert rows[np.array([7, 2, 2, 5])].tolist() == [7, 2, 2, 5]
    assert disk.read == [("ahead", [7, 2, 2, 5])]
    assert rows[np.array([7, 3])].tolist() == [7, 3]
    assert rows[np.array([9])].tolist() == [9]
    assert rows[np.array([7, 2, 2, 5])].tolist() == [7, 2, 2, 5]  # nothing keeps it any more
    assert [who for who, _ in disk.read[1:]] == ["asked"] * 3


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 9), min_size=1, max_size=4))))
def test_rows_are_right_whatever_was_announced(steps: list[tuple[bool, list[int]]]) -> None:
    rows = ReadAhead(np.arange(10.0))
    for announced, wanted in steps:
        where = np.array(wanted)
        if announced:
            rows.announce(where)
        else:
            assert rows[where].tolist() == wanted


def test_the_next_batch_is_read_while_one_is_waited_for() -> None:
    disk = OnDisk(np.arange(10.0))
    rows, batches = ReadAhead(disk), [np.array([n, n + 1]) for n in range(6)]
    rows.announce(batches[0])
    for batch, following in itertools.pairwise(batches):
        rows.announce(following)
        assert rows[batch].tolist() == batch.tolist()
    assert [who for who, _ in disk.read] == ["ahead"] * len(disk.read)


def test_an_error_of_the_thread_reaches_who_asks() -> None:
    class Broken:
        def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
            raise OSError("stale file handle")

    rows = ReadAhead(Broken())
    rows.announce(np.array([1]))
    with pytest.raises(OSError, match="stale file handle"):
        rows[np.array([1])]


def test_the_thread_ends_with_its_rows() -> None:
    before = set(threading.enumerate())
    rows = ReadAhead(OnDisk(np.arange(10.0)))
    rows.announce(np.array([1]))
    (thread,) = set(threading.enumerate()) - before
    del rows
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def trained(encoder: Encoder, train: FeatureDataset, val: FeatureDataset, views: int) -> Fit:
    recipe = Recipe(batch_size=8, blocks="last 1", lr=1e-3, views=views)
    choice = select(recipe, encoder)
    data = (choice, choice.boundary, train, val)
    fit = Fit(encoder, *data, classes=CLASSES, horizon=200, seed=3)
    for samples in (48, 104, 200):  # not whole epochs of 30
        fit.train_until(samples)
    return fit


@pytest.mark.parametrize("views", [0, 2])
def test_a_fit_that_reads_ahead_is_the_same_to_the_bit(encoder: Encoder, views: int) -> None:
    boundary = select(Recipe(blocks="last 1"), encoder).boundary
    train, val = at(encoder, boundary, *images(30, 1)), at(encoder, boundary, *images(20, 2))
    train = replace(train, views=tuple(train.features + copy for copy in range(1, views + 1)))
    plain = trained(encoder, train, val, views)
    disks = [OnDisk(array) for array in (train.features, *train.views)]
    first, *copies = map(ReadAhead, disks)
    judged = OnDisk(val.features)
    ahead = trained(
        encoder,
        replace(train, features=first, views=tuple(copies)),
        replace(val, features=ReadAhead(judged)),
        views,
    )
    assert_same(weights(ahead), weights(plain))
    assert ahead.best == plain.best
    assert ahead.evaluate() == plain.evaluate()
    counted = sum(len(rows) for disk in disks for _, rows in disk.read)
    assert counted == 200  # each sample once, of one copy
    late = [rows for disk in disks for who, rows in disk.read if who == "asked"]
    assert sum(map(len, late)) == 8  # the first batch


def test_an_evaluation_reads_its_next_images_ahead(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.classifier.EVALUATED", 8)
    val = clusters(30, 2)
    disk = OnDisk(val.features)
    train = clusters(20, 1)
    recipe = Recipe(batch_size=8)
    numbers = {"classes": CLASSES, "horizon": 20, "seed": 0}
    choice = select(recipe, encoder)
    fit = Fit(encoder, choice, "head", train, replace(val, features=ReadAhead(disk)), **numbers)
    plain = Fit(encoder, choice, "head", train, val, **numbers)
    assert fit.evaluate() == plain.evaluate()
    assert [rows for _, rows in sorted(disk.read, key=lambda each: each[1][0])] == [
        list(range(begin, min(begin + 8, 30))) for begin in range(0, 30, 8)
    ]
    assert [rows[0] for rows in disk.ahead] == [8, 16, 24]


def test_positions_that_were_announced_are_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end of an epoch the next one's shuffle is drawn, and the last one's is gone."""
    drawn: list[object] = []
    plain = np.random.default_rng

    def counted(seed: object) -> np.random.Generator:
        drawn.append(seed)
        return plain(seed)  # type: ignore[arg-type]

    monkeypatch.setattr(np.random, "default_rng", counted)
    stream, alone = ShuffleStream(20, 5), ShuffleStream(20, 5)
    ahead = [stream.take(0, 8)]
    for start in range(0, 80, 8):
        assert stream.take(start, 8) is ahead[-1]
        ahead.append(stream.take(start + 8, 8))
    assert drawn == [(5, epoch) for epoch in range(5)]
    for number, positions in enumerate(ahead):
        np.testing.assert_array_equal(positions, alone.take(8 * number, 8))
