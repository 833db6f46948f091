"""Features that stay on the device, where it has room beside all that a fit takes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.device import Device
from models.feature_dataset import FeatureDataset


class Kept:
    """Features and labels on a device, as far as they were sent there.

    Attributes:
        tables: features (positions, …) and labels (positions,); none once memory was short.
        sent: which positions have been.
        readers: recorded work that reads the tables, with memory of its own.
    """

    everywhere: ClassVar[weakref.WeakSet[Kept]] = weakref.WeakSet()

    def __init__(self, tables: list[Tensor]) -> None:
        self.tables = tables
        self.sent = np.zeros(len(tables[0]), bool)
        self.readers: list[Any] = []
        self.everywhere.add(self)


def give_way() -> bool:
    """Free the memory of all that is kept in this process; says whether any was.

    From then on features are sent with each batch again.
    """
    held = [kept for kept in Kept.everywhere if kept.tables]
    for kept in held:
        kept.readers.clear()
        kept.tables.clear()
    return bool(held)


@dataclass(frozen=True)
class ResidentDataset(FeatureDataset):
    """Examples that the device keeps once a batch has sent them.

    The first pass over them sends what it always did, and all later ones no more than positions.
    """

    kept: Kept | None = None

    def announce(self, positions: NDArray[np.int64]) -> None:
        """Begin to read what a `batch` will have to send."""
        assert self.kept is not None
        if self.kept.tables:
            positions = positions[~self.kept.sent[positions]]
        super().announce(positions)

    def batch(
        self, positions: NDArray[np.int64], device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Do as `FeatureDataset.batch`, with the same result to the bit."""
        assert self.kept is not None
        if not self.kept.tables:
            return super().batch(positions, device, dtype)
        if (found := self.send(positions, device)) is not None:
            return found[0].to(dtype), found[1]
        return self.chosen(_sent(positions, device), dtype)

    @property
    def stays(self) -> bool:
        """Whether it is kept, and has not given way."""
        return self.kept is not None and bool(self.kept.tables)

    def send(
        self, positions: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor] | None:
        """Send what is not there yet; returns the batch if that was all of it."""
        assert self.kept is not None
        features, labels = self.kept.tables
        missing = positions[~self.kept.sent[positions]]
        if not len(missing):
            return None
        where = _sent(missing, device)
        found, classes = super().batch(missing, device, features.dtype)
        features.index_copy_(0, where, found)
        labels.index_copy_(0, where, classes)
        self.kept.sent[missing] = True
        return (found, classes) if len(missing) == len(positions) else None

    def chosen(self, where: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Copy the examples at positions on the device, which all have been sent."""
        assert self.kept is not None
        features, labels = self.kept.tables
        return features.index_select(0, where).to(dtype), labels.index_select(0, where)

    def read_by(self, readers: list[Any]) -> None:
        """Have the list emptied when the memory of what they read is freed."""
        assert self.kept is not None
        self.kept.readers = readers


def resident(
    datasets: tuple[FeatureDataset, ...], device: Device, room: float
) -> tuple[FeatureDataset, ...]:
    """Return the datasets, those to be kept on the device that `room` bytes suffice for.

    The first ones go first; what is kept already, or gave way, stays as it is.
    """
    if room <= 0:
        return datasets
    found: list[FeatureDataset] = []
    for examples in datasets:
        if isinstance(examples, ResidentDataset):
            found.append(examples)
            continue
        one, label = examples.features[examples.rows[:1]], examples.labels[:1]
        count = examples.copies * len(examples)
        size = count * (one.nbytes + label.nbytes)
        if size > room:
            found.append(examples)
            continue
        room -= size
        tables = [
            torch.empty((count, *like.shape[1:]), dtype=like.dtype, device=device.torch)
            for like in (torch.from_numpy(one), torch.from_numpy(label))
        ]
        found.append(
            ResidentDataset(
                *(examples.features, examples.labels, examples.rows, examples.views), Kept(tables)
            )
        )
    return tuple(found)


def refill(there: Tensor, values: NDArray[Any]) -> None:
    """Overwrite a tensor on a device, in the order of what that is asked to do."""
    there.copy_(_pinned(values, there.device), non_blocking=True)


def _sent(positions: NDArray[np.int64], device: torch.device) -> Tensor:
    return _pinned(positions, device).to(device, non_blocking=True)


def _pinned(values: NDArray[Any], device: torch.device) -> Tensor:
    found = torch.from_numpy(values)
    return found.pin_memory() if device.type == "cuda" else found
