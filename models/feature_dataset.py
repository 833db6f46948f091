"""Labelled features, and the order in which training sees them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Rows(Protocol):
    """An array, in memory or on disk, that gives copies of some rows."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[Any]: ...


class ReadAhead:
    """Rows on disk; a thread reads the announced ones early.

    The thread ends with this object.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._thread = ThreadPoolExecutor(1)
        # Two batches: the next one is read while this one is waited for.
        self._announced: deque[tuple[NDArray[np.int64], Future[NDArray[Any]]]] = deque(maxlen=2)

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Begin to read rows, one or more."""
        self._announced.append((rows, self._thread.submit(self._rows.__getitem__, rows)))

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return copies of rows; what was announced, or a portion of it, is there or on its way.

        Raises whatever the reading has raised.
        """
        for place, (announced, found) in enumerate(self._announced):
            if np.array_equal(announced, rows):
                del self._announced[place]  # whoever gets it may keep it
                return found.result()
            order = np.argsort(announced)
            places = np.searchsorted(announced, rows, sorter=order)
            places = order[np.minimum(places, len(order) - 1)]
            if np.array_equal(announced[places], rows):
                return found.result()[places]
        return self._rows[rows]


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

    @property
    def reads_ahead(self) -> bool:
        """Whether it is of use to `announce` a batch."""
        return any(isinstance(array, ReadAhead) for array in (self.features, *self.views))

    def announce(self, positions: NDArray[np.int64]) -> None:
        """Begin to read what the `batch` at these positions needs, if it lies on disk."""
        for array, _, rows in self._parts(positions):
            if isinstance(array, ReadAhead) and len(rows):
                array.announce(rows)

    def batch(
        self, positions: NDArray[np.int64], device: torch.device, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Copy the examples at `positions` to `device`.

        Position p is example p modulo n, and p // n says which of its copies.
        """
        features = torch.from_numpy(self._gathered(positions))
        labels = torch.from_numpy(self.labels[self.rows[positions % len(self)]])
        if device.type == "cuda":
            features, labels = features.pin_memory(), labels.pin_memory()
        # First there, then converted: half precision halves what goes over the bus.
        features = features.to(device, non_blocking=True).to(dtype)
        return features, labels.to(device, non_blocking=True)

    def _gathered(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Copy the features at `positions`."""
        (array, where, rows), *views = self._parts(positions)
        first = array[rows]  # fancy indexing copies
        if not views:
            return first
        gathered = np.empty((len(positions), *first.shape[1:]), first.dtype)
        gathered[where] = first
        for array, where, rows in views:
            if len(rows):
                gathered[where] = array[rows]
        return gathered

    def _parts(
        self, positions: NDArray[np.int64]
    ) -> Iterator[tuple[Rows, NDArray[np.bool_], NDArray[np.int64]]]:
        """Yield each array, which of the positions it has, and its rows there."""
        copies, places = np.divmod(positions, len(self))
        rows = self.rows[places]
        for copy, array in enumerate((self.features, *self.views)):
            yield array, copies == copy, rows[copies == copy]


class ShuffleStream:
    """An endless stream of positions: one shuffle of the n examples after another.

    Each time, an example comes as one of its copies, drawn at random (`FeatureDataset.batch`).
    The order is a function of (n, seed, copies) alone: a resumed fit sees what it would have seen.
    """

    def __init__(self, n: int, seed: int, copies: int = 1) -> None:
        self._n, self._seed, self._copies = n, seed, copies
        self._epoch = -1
        self._shuffle: NDArray[np.int64] = np.empty(0, np.int64)
        self._taken: tuple[int, int, NDArray[np.int64]] | None = None

    def take(self, start: int, count: int) -> NDArray[np.int64]:
        """Take positions number `start` to `start + count` of the stream.

        What was taken last, as to announce it, is at hand: its epoch may be over.
        """
        if self._taken is None or self._taken[:2] != (start, count):
            self._taken = start, count, self._drawn(start, count)
        return self._taken[2]

    def _drawn(self, start: int, count: int) -> NDArray[np.int64]:
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
