"""What makes features: encodes images and writes their shards, so that none pass the driver."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import ray

from data import FeatureStore
from data.decoding import DECODING
from records import EncoderTimed
from tune.features.worker import EncodeJob, EncoderWorker

TENSOR = "x"  # all supported towers pass one tensor from group to group
HASHES = "perceptual hash"  # the store of hashes, which need no encoder


@dataclass(frozen=True)
class Written:
    """What the driver hears of a job: which shards there are follows from job and `broken`.

    Attributes:
        broken: why an image cannot be read, by its digest.
        speed: see `Encoded`.
        machine: the address of the one that wrote.
    """

    broken: dict[str, str]
    speed: EncoderTimed | None
    machine: str


@dataclass(frozen=True, eq=False)
class FeatureWriter:
    """Encodes on an actor, and writes a shard for each boundary and one of perceptual hashes."""

    worker: EncoderWorker
    store: FeatureStore

    @cached_property
    def hashes(self) -> FeatureStore:
        """Where perceptual hashes lie, at the boundary `hash_bits`."""
        return FeatureStore(self.store.root, HASHES)

    @property
    def hash_bits(self) -> str:
        """Name the hashes of images as they are decoded for this encoder."""
        return f"144 bits of {self.worker.least} pixels, {DECODING}"

    def views(self, digests: Iterable[str], view: int) -> list[str]:
        """Name the features of a view of images."""
        return [self.worker.augmentation.view_digest(digest, view) for digest in digests]

    def write(self, job: EncodeJob) -> Written:
        """Encode a job's images and write their features.

        Raises:
            InputError: the cache cannot be written to.
        """
        encoded = self.worker.encode(job)
        read = job.without(encoded.broken)
        views = self.views(read, job.view)
        for boundary, array in encoded.features.items():
            self.store.add(boundary, views, {TENSOR: array})
        if encoded.hashes is not None:
            self.hashes.add(self.hash_bits, read, {TENSOR: encoded.hashes})
        return Written(encoded.broken, encoded.speed, ray.util.get_node_ip_address())

    def adopt(self, job: EncodeJob, written: Written) -> None:
        """Take over in the driver the shards of a job that another process has written.

        Raises:
            InputError: they cannot be seen here.
        """
        if not (read := job.without(written.broken)):
            return
        views = self.views(read, job.view)
        for boundary in job.boundaries:
            self.store.adopt(boundary, views, written.machine)
        if job.hashed:
            self.hashes.adopt(self.hash_bits, read, written.machine)
