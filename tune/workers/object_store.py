"""Features and other large objects, put once and read by every process of a machine.

Weights and features are read where they lie: Ray hands out arrays without a copy, and a copy for
each trial would fill the memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from data import ShardRows
from models.feature_dataset import FeatureDataset, ReadAhead, Rows
from models.joined import join_arrays

UNREADABLE, NOT_MADE = -1, -2
"""Places of images that have no features: they cannot be read, or no fit is given them."""


@dataclass(frozen=True, eq=False)
class JoinedRows:
    """The embeddings of several encoders on disk as one array, joined as rows are asked for."""

    each: tuple[ShardRows, ...]

    def __len__(self) -> int:
        return len(self.each[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(rows.nbytes for rows in self.each)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows into a new array; raises LostFeaturesError if some are gone."""
        return join_arrays([rows[positions] for rows in self.each])


@dataclass(frozen=True)
class SharedArray:
    """A read-only array that every process of the cluster reads without a copy of its own.

    A small array lies in Ray's object store, one copy a machine, fetched at the first use; NumPy
    refuses to write to it. A write through `torch.from_numpy` would not be refused, and would
    change the array for every process: so no one hands these arrays to torch, and
    `FeatureDataset.batch` copies the rows it gathers. A large array stays in files that all
    machines see, and its rows are read as they are needed.
    """

    place: ray.ObjectRef[NDArray[Any]] | ShardRows | JoinedRows

    def get(self) -> NDArray[Any] | ShardRows | JoinedRows:
        """Return the array."""
        if isinstance(self.place, ShardRows | JoinedRows):
            return self.place
        array: NDArray[Any] = fetch(self.place)
        return array


@dataclass(frozen=True)
class SharedSplit:
    """The images of one split that have features: their labels, and handles of the features.

    Attributes:
        labels: class numbers, shape (images,).
        features: by cached boundary, each of shape (images, …).
        views: features of augmented copies of the images, by the boundaries that have any.
        places: where the features of each image of the split as listed lie, shape (listed,), or
            one of `UNREADABLE` and `NOT_MADE`; None if all have features, in this order.
    """

    labels: NDArray[np.int64]
    features: dict[str, SharedArray]
    views: dict[str, tuple[SharedArray, ...]] = field(default_factory=dict)
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def readable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find where the features of listed images lie, less those that cannot be read.

        Raises:
            LookupError: no features were made of one of them.
        """
        if self.places is None:
            return rows
        found = self.places[rows]
        if (found == NOT_MADE).any():
            raise LookupError(f"no features were made of row {rows[found == NOT_MADE][0]}")
        readable: NDArray[np.int64] = found[found != UNREADABLE]
        return readable

    def examples(
        self, boundary: str, rows: NDArray[np.int64] | None = None, views: int = 0
    ) -> FeatureDataset:
        """Return some images (all without `rows`) as a fit takes them, with views of each."""
        every = np.arange(len(self)) if rows is None else rows
        copies = tuple(map(_rows, self.views[boundary][:views])) if views else ()
        return FeatureDataset(_rows(self.features[boundary]), self.labels, every, copies)


def _rows(array: SharedArray) -> Rows:
    """Return an array's rows, as a fit takes them; those on disk are read ahead."""
    found = array.get()
    return ReadAhead(found) if isinstance(found, ShardRows | JoinedRows) else found


@cache
def fetch(ref: ray.ObjectRef[Any]) -> Any:
    """Return the object behind `ref`; a process unpickles it once."""
    return ray.get(ref)
