"""Features that stay on the device change no number, cross the bus once, and give way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.device import Device
from models.feature_dataset import FeatureDataset, ReadAhead
from models.fit import Fit
from models.micro_batches import MicroBatches
from models.resident_features import ResidentDataset, give_way, resident
from tests.models.devices import Simulated
from tests.models.fits import weights
from tests.models.test_on_a_device import BATCH, STEPPED, encoder_of, fit_of

CPU, PLENTY = Device("cpu"), 1e12
INDEX = 8  # bytes of a position


@pytest.fixture
def sim() -> Iterator[Simulated]:
    with Simulated() as found:
        yield found


def numbered(n: int, views: int) -> FeatureDataset:
    """Examples that say which they are: [row, copy]."""
    arrays = [
        np.stack([np.arange(2 * n), np.full(2 * n, copy)], axis=1).astype(np.float16)
        for copy in range(views + 1)
    ]
    rows = np.arange(2 * n)[::-2].copy()
    return FeatureDataset(arrays[0], 10 * np.arange(2 * n), rows, tuple(arrays[1:]))


@given(st.integers(1, 12), st.integers(0, 2), st.data())
def test_batches_are_the_same_whatever_came_before(n: int, views: int, data: st.DataObject) -> None:
    plain = numbered(n, views)
    (kept,) = resident((plain,), CPU, PLENTY)
    assert isinstance(kept, ResidentDataset)
    wanted = st.lists(st.integers(0, n * (views + 1) - 1), min_size=1, max_size=20)
    for positions in data.draw(st.lists(wanted, min_size=1, max_size=6)):
        for dtype in (torch.float32, torch.float64):
            where = np.array(positions, dtype=np.int64)
            found = kept.batch(where, CPU.torch, dtype)
            for x, expected in zip(found, plain.batch(where, CPU.torch, dtype), strict=True):
                assert x.dtype == expected.dtype
                assert torch.equal(x, expected)
                x.zero_()  # a copy


class Counted:
    """Rows that say which were read."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.read = array, list[int]()

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        self.read += rows.tolist()
        return self.array[rows]


def test_what_is_kept_is_not_read_ahead_again() -> None:
    plain = numbered(10, 0)
    counted = Counted(np.asarray(plain.features[np.arange(20)]))
    (kept,) = resident((replace(plain, features=ReadAhead(counted)),), CPU, PLENTY)
    counted.read.clear()  # of a row that tells how large they are
    for positions in (np.arange(4), np.arange(2, 6), np.arange(6)):
        kept.announce(positions)
        x, _ = kept.batch(positions, CPU.torch, torch.float32)
        assert x[:, 0].tolist() == plain.rows[positions].tolist()
    assert sorted(counted.read) == sorted(plain.rows[:6].tolist())


def test_what_has_no_room_is_not_kept() -> None:
    one, other = numbered(10, 1), numbered(100, 0)
    size = 20 * (2 * 2 + 8)
    assert isinstance(resident((one, other), CPU, size)[0], ResidentDataset)
    assert resident((one, other), CPU, size)[1] is other
    assert resident((one, other), CPU, size - 1) == (one, other)
    kept = resident((one,), CPU, size)
    assert resident(kept, CPU, 0) == kept


@pytest.mark.parametrize("recipe", STEPPED)
def test_a_fit_with_room_is_the_same_to_the_bit_and_sends_less(recipe: str, sim: Simulated) -> None:
    milestones = [BATCH * step for step in (2, 5, 9)]

    def run(room: float) -> tuple[list[float], Fit, int]:
        with mock.patch.object(Device, "spare", return_value=room):
            fit = fit_of(encoder_of("native"), sim.name, STEPPED[recipe])
            sim.meter.restart()
            found = [fit.train_until(milestone, prospect=True) for milestone in milestones]
        return (
            [n for e in found for n in (e.train_loss, e.val_loss, e.prospect or 0.0)],
            fit,
            (sim.meter.sent),
        )

    (expected, plain, before), (found, fit, sent) = run(0), run(PLENTY)
    assert found == expected
    assert all(
        torch.equal(weight.cpu(), weights(plain)[name].cpu())
        for name, weight in weights(fit).items()
    )
    assert isinstance(fit._train, ResidentDataset)
    assert not isinstance(plain._train, ResidentDataset)
    assert sent < before
    sim.meter.restart()
    fit.step()  # its examples have all been there
    assert sim.meter.sent == INDEX * BATCH
    sim.meter.restart()
    fit._judged()
    assert sim.meter.sent == 2 * INDEX * len(fit._val)  # the labels are for what judges


def test_the_first_pass_sends_what_it_did_and_a_position(sim: Simulated) -> None:
    plain = fit_of(encoder_of("native"), "cpu", STEPPED["suffix"])._train
    (kept,) = resident((plain,), Device(sim.name), PLENTY)
    every, place = np.arange(len(plain)), torch.device(sim.name)
    sim.meter.restart()
    plain.batch(every, place, torch.float32)
    before = sim.meter.sent
    sim.meter.restart()
    kept.batch(every, place, torch.float32)
    assert sim.meter.sent == before + INDEX * len(plain)


def test_without_memory_features_give_way_before_a_batch_is_divided(sim: Simulated) -> None:
    with mock.patch.object(Device, "spare", return_value=PLENTY):
        fit = fit_of(encoder_of("native"), sim.name, STEPPED["suffix"])
        whole = fit_of(encoder_of("native"), "cpu", STEPPED["suffix"])
        for each in (fit, whole):
            each.train_until(6 * BATCH)
    kept = fit._train
    assert isinstance(kept, ResidentDataset)
    assert kept.kept is not None
    size = sum(table.nbytes for table in kept.kept.tables)
    sim.meter.restart()
    fit.step()
    whole.step()
    sim.meter.limit = sim.meter.peak - size // 2
    found, expected = fit.step(), whole.step()
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert not kept.kept.tables
    assert fit._micro_batches.size == BATCH


def test_every_shortage_of_memory_has_features_give_way() -> None:
    (kept,) = resident((numbered(3, 0),), CPU, PLENTY)
    assert isinstance(kept, ResidentDataset)
    asked = []

    def work(size: int) -> int:
        asked.append(size)
        if len(asked) < 3:
            raise torch.OutOfMemoryError("out of memory")
        return size

    assert MicroBatches(8).run(work) == 4
    assert asked == [8, 8, 4]
    assert kept.kept is not None
    assert not kept.kept.tables
    assert not give_way()


def test_a_fit_on_the_cpu_keeps_nothing() -> None:
    fit = fit_of(encoder_of("native"), "cpu", STEPPED["suffix"])
    fit.train_until(BATCH)
    assert not isinstance(fit._val, ResidentDataset)
