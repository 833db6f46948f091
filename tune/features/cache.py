"""The features of one encoder on disk, and what makes those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import FeatureStore, ShardRows
from data.decoding import DECODING
from records import EncoderTimed
from tune.features.speed import keep_speed, kept_speed, typical
from tune.features.worker import Encoded, EncodeJob, EncoderWorker, ImageRef

TENSOR = "x"  # all supported towers pass one tensor from group to group
HASHES = "perceptual hash"  # the store of hashes, which need no encoder


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
        self, keys: Mapping[str, str], view: int, boundaries: Sequence[str], slots: int
    ) -> Iterator[EncodeJob]:
        """Yield jobs for all images, keys by digest, whose features in this view are missing."""
        views = self._views(keys, view)
        rows = {row for boundary in boundaries for row in self.store.missing(boundary, views)}
        if view == 0:
            rows |= set(self._hashes.missing(self._hash_bits, views))
        images = [ImageRef(digest, key) for digest, key in keys.items()]
        wanted = [images[row] for row in sorted(rows)]
        for some in _chunks(wanted, self.worker.batch_size, slots):
            yield EncodeJob(some, view, boundaries)

    def keep(self, job: EncodeJob, encoded: Encoded) -> None:
        """Write what came out of a job."""
        read = [image.digest for image in job.images if image.digest not in encoded.broken]
        views = self._views(read, job.view)
        for boundary, array in encoded.features.items():
            self.store.add(boundary, views, {TENSOR: array})
        if encoded.hashes is not None and self._hashes.missing(self._hash_bits, read):
            self._hashes.add(self._hash_bits, read, {TENSOR: encoded.hashes})

    def load(self, boundary: str, digests: Iterable[str], view: int) -> NDArray[Any]:
        """Load features in the order of `digests`; raises MissingFeaturesError."""
        return self.store.load(boundary, self._views(digests, view))[TENSOR]

    def locate(self, boundary: str, digests: Iterable[str], view: int) -> ShardRows:
        """Find where features lie, in the order of `digests`; raises MissingFeaturesError."""
        return self.store.locate(boundary, self._views(digests, view))[TENSOR]

    def hashes(self, digests: Sequence[str]) -> NDArray[np.uint8]:
        """Load the images' perceptual hashes; raises MissingFeaturesError."""
        return self._hashes.load(self._hash_bits, digests)[TENSOR]

    def speed(self, measured: Sequence[EncoderTimed]) -> EncoderTimed | None:
        """Return how fast the encoder was in jobs that are done, or where there are none, before.

        It is kept for those who find all features there.
        """
        speed = typical(measured)
        if speed:
            keep_speed(self.store, speed)
        return speed or kept_speed(self.store)

    @cached_property
    def _hashes(self) -> FeatureStore:
        return FeatureStore(self.store.root, HASHES)

    @property
    def _hash_bits(self) -> str:
        """Name the hashes of images as they are decoded for this encoder."""
        return f"144 bits of {self.worker.least} pixels, {DECODING}"

    def _views(self, digests: Iterable[str], view: int) -> list[str]:
        return [self.worker.augmentation.view_digest(digest, view) for digest in digests]


def _chunks(images: list[ImageRef], batch_size: int, slots: int) -> Iterator[list[ImageRef]]:
    """Yield the images of each job: a few batches, so that every slot is busy to the end."""
    size = max(batch_size, min(4 * batch_size, -(-len(images) // (4 * slots))))
    for begin in range(0, len(images), size):
        yield images[begin : begin + size]
