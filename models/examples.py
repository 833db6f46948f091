"""Labelled features, and the order in which training sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """Some rows of a shared feature array, with their labels.

    Args:
        features: (N, …), shared between processes and read-only: only ever gathered from.
        labels: (N,) class ids.
        rows: which of the N take part.
    """

    features: NDArray[np.generic]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(
        self, positions: NDArray[np.int64], device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The examples at `positions` (of the `len(self)` rows), copied to `device`."""
        rows = self.rows[positions]
        features = torch.from_numpy(self.features[rows])  # fancy indexing copies
        labels = torch.from_numpy(self.labels[rows])
        if device.type == "cuda":
            features, labels = features.pin_memory(), labels.pin_memory()
        return (
            features.to(device, dtype, non_blocking=True),
            labels.to(device, non_blocking=True),
        )


class SampleOrder:
    """An endless stream of positions 0..n-1: one shuffle after another.

    The order is a function of (n, seed) alone, so that a fit resumed from its count of samples
    sees what it would have seen.
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed
        self._epoch = -1
        self._shuffle: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Positions number `start` to `start + count` of the stream."""
        pieces = []
        while count > 0:
            epoch, offset = divmod(start, self._n)
            if epoch != self._epoch:
                self._epoch = epoch
                self._shuffle = np.random.default_rng((self._seed, epoch)).permutation(self._n)
            piece = self._shuffle[offset : offset + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces)
