"""Features and other large objects, put once and read by every process of a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from models.feature_dataset import FeatureDataset


@dataclass(frozen=True)
class SharedArray:
    """A read-only array that every process of the cluster can have without a copy of its own.

    Small ones lie in Ray's object store, one copy a node, fetched when first asked for; larger
    ones are memory maps of a file that all nodes see. Both come back flagged read-only. A write
    through `torch.from_numpy` would get past that flag and change the array for every process,
    so nothing hands these arrays to torch: `FeatureDataset.batch` gathers rows, which copies.
    """

    ref: ray.ObjectRef[NDArray[Any]] | None
    path: Path | None

    def get(self) -> NDArray[Any]:
        if self.path is not None:
            return _mapped(self.path)
        assert self.ref is not None
        array: NDArray[Any] = _fetched(self.ref)
        return array


@dataclass(frozen=True)
class SharedSplit:
    """One split's labels and its features at every cached boundary, as handles.

    `views` holds, by boundary where there are any, the features of augmented copies of its images;
    `groups` numbers of their groups, shape (images,), or None where the source names none.
    """

    labels: NDArray[np.int64]
    features: dict[str, SharedArray]
    views: dict[str, tuple[SharedArray, ...]] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def examples(
        self, boundary: str, rows: NDArray[np.int64] | None = None, views: int = 0
    ) -> FeatureDataset:
        """Some rows (all without) as a fit takes them, with so many views of each."""
        every = np.arange(len(self)) if rows is None else rows
        copies = tuple(array.get() for array in self.views[boundary][:views]) if views else ()
        return FeatureDataset(self.features[boundary].get(), self.labels, every, copies)


def share_array(array: NDArray[Any]) -> SharedArray:
    """Put an array in the object store."""
    return SharedArray(ray.put(array), None)


def fetch(ref: ray.ObjectRef[Any]) -> Any:
    """The object behind `ref`, once per process."""
    return _fetched(ref)


@cache
def _fetched(ref: ray.ObjectRef[Any]) -> Any:
    return ray.get(ref)


@cache
def _mapped(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r")
    return array
