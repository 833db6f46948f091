"""Labelled features, and the order in which training sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Rows(Protocol):
    """An array, in memory or on disk, that gives copies of some rows."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class FeatureDataset:
    """Rows of a shared feature array, with their labels.

    Args:
        features: (N, …), read-only and shared between processes.
        labels: (N,) class ids.
        rows: the indices of the rows that take part.
        views: arrays like `features`, of augmented copies of the same images.
    """

    features: Rows
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    views: tuple[Rows, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def copies(self) -> int:
        """The number of copies of each example: itself, and its views."""
        return 1 + len(self.views)

    def batch(
        self, positions: NDArray[np.int64], device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Copy the examples at `positions` to `device`.

        Position p is example p modulo n, and p // n says which of its copies.
        """
        copies, places = np.divmod(positions, len(self))
        rows = self.rows[places]
        gathered = self.features[rows]  # fancy indexing copies
        for copy, view in enumerate(self.views, start=1):
            gathered[copies == copy] = view[rows[copies == copy]]
        features, labels = torch.from_numpy(gathered), torch.from_numpy(self.labels[rows])
        if device.type == "cuda":
            features, labels = features.pin_memory(), labels.pin_memory()
        # First there, then converted: half precision halves what goes over the bus.
        features = features.to(device, non_blocking=True).to(dtype)
        return features, labels.to(device, non_blocking=True)


class ShuffleStream:
    """An endless stream of positions: one shuffle of the n examples after another.

    Each time, an example comes as one of its copies, drawn at random (`FeatureDataset.batch`).
    The order is a function of (n, seed, copies) alone: a resumed fit sees what it would have seen.
    """

    def __init__(self, n: int, seed: int, copies: int = 1) -> None:
        self._n, self._seed, self._copies = n, seed, copies
        self._epoch = -1
        self._shuffle: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Take positions number `start` to `start + count` of the stream."""
        pieces = []
        while count > 0:
            epoch, offset = divmod(start, self._n)
            if epoch != self._epoch:
                self._epoch = epoch
                rng = np.random.default_rng((self._seed, epoch))
                self._shuffle = rng.permutation(self._n)
                if self._copies > 1:
                    self._shuffle += self._n * rng.integers(self._copies, size=self._n)
            piece = self._shuffle[offset : offset + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces)
