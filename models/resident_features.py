"""Features that stay on the device, where it has room beside all that a fit takes."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import ClassVar

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
    """

    everywhere: ClassVar[weakref.WeakSet[Kept]] = weakref.WeakSet()

    def __init__(self, tables: list[Tensor]) -> None:
        self.tables = tables
        self.sent = np.zeros(len(tables[0]), bool)
        self.everywhere.add(self)


def give_way() -> bool:
    """Free the memory of all that is kept in this process; says whether any was.

    From then on features are sent with each batch again.
    """
    held = [kept for kept in Kept.everywhere if kept.tables]
    for kept in held:
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
        features, labels = self.kept.tables
        missing = positions[~self.kept.sent[positions]]
        if len(missing):
            where = _sent(missing, device)
            found, classes = super().batch(missing, device, features.dtype)
            features.index_copy_(0, where, found)
            labels.index_copy_(0, where, classes)
            self.kept.sent[missing] = True
            if len(missing) == len(positions):
                return found.to(dtype), classes
        where = _sent(positions, device)
        return features.index_select(0, where).to(dtype), labels.index_select(0, where)


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


def _sent(positions: NDArray[np.int64], device: torch.device) -> Tensor:
    found = torch.from_numpy(positions)
    if device.type == "cuda":
        found = found.pin_memory()
    return found.to(device, non_blocking=True)
