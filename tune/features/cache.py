"""The features of one encoder on disk, and what makes those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import FeatureStore, ShardRows
from records import EncoderTimed
from tune.features.speed import keep_speed, kept_speed, typical
from tune.features.worker import EncodeJob, EncoderWorker, ImageRef
from tune.features.writer import TENSOR, FeatureWriter


@dataclass(frozen=True)
class EncoderCache:
    """Features by boundary and by view of an image (0: the image itself), and the images' hashes.

    Attributes:
        store: on disk, under this encoder's fingerprint.
        worker: encodes, on a pool; each of its processes has a trial's resources.
    """

    store: FeatureStore
    worker: EncoderWorker

    def jobs(
        self,
        keys: Mapping[str, str],
        view: int,
        boundaries: Sequence[str],
        slots: int,
        hashed: bool = True,
    ) -> Iterator[EncodeJob]:
        """Yield jobs for all images, keys by digest, whose features in this view are missing.

        So may hashes be of images themselves, where they are to be `hashed`.
        """
        views = self.writer.views(keys, view)
        rows = {row for boundary in boundaries for row in self.store.missing(boundary, views)}
        unhashed = set[int]()
        if hashed and view == 0:
            unhashed |= set(self.writer.hashes.missing(self.writer.hash_bits, views))
        images = [ImageRef(digest, key) for digest, key in keys.items()]
        for part in _chunks(sorted(rows | unhashed), self.worker.batch_size, slots):
            some = [images[row] for row in part]
            yield EncodeJob(some, view, boundaries, not unhashed.isdisjoint(part))

    @cached_property
    def writer(self) -> FeatureWriter:
        """What does the jobs, on the pool's actors."""
        return FeatureWriter(self.worker, self.store)

    def load(self, boundary: str, digests: Iterable[str], view: int) -> NDArray[Any]:
        """Load features in the order of `digests`; raises MissingFeaturesError."""
        return self.store.load(boundary, self.writer.views(digests, view))[TENSOR]

    def locate(self, boundary: str, digests: Iterable[str], view: int) -> ShardRows:
        """Find where features lie, in the order of `digests`; raises MissingFeaturesError."""
        return self.store.locate(boundary, self.writer.views(digests, view))[TENSOR]

    def hashes(self, digests: Sequence[str]) -> NDArray[np.uint8]:
        """Load the images' perceptual hashes; raises MissingFeaturesError."""
        return self.writer.hashes.load(self.writer.hash_bits, digests)[TENSOR]

    def speed(self, measured: Sequence[EncoderTimed]) -> EncoderTimed | None:
        """Return how fast the encoder was in these jobs; without jobs, in those of an earlier run.

        The store keeps it for later runs.
        """
        speed = typical(measured)
        if speed:
            keep_speed(self.store, speed)
        return speed or kept_speed(self.store)


def _chunks(rows: list[int], batch_size: int, slots: int) -> Iterator[list[int]]:
    """Yield the images of each job: a few batches, so that every slot is busy to the end."""
    size = max(batch_size, min(4 * batch_size, -(-len(rows) // (4 * slots))))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]
