"""The feature stage: every image goes through the encoder once, on all devices of the cluster.

Ray Data is not used: it adds 12 s of start-up (measured) to every search, and each search would
still have to look up which images are in the store already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import ray

from data import (
    FeatureStore,
    MissingFeaturesError,
    Split,
    SplitContent,
    UnreadableImageError,
)
from errors import InputError
from tune.features.worker import Encoded, EncodeJob, EncoderWorker, ImageRef
from tune.workers.actor_pool import ActorPool, result_of
from tune.workers.object_store import SharedArray, SharedSplit

TENSOR = "x"  # all supported towers pass one tensor from group to group
HASHES, HASH_BITS = "perceptual hash", "144 bits"  # the store of hashes, which need no encoder
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used."""

    split: str
    key: str
    reason: str


@dataclass(frozen=True)
class Features:
    """What the stage has made: handles to each split's features, and its readable images."""

    splits: dict[str, SharedSplit]
    contents: dict[str, SplitContent]
    skipped: list[Skipped]


@dataclass(frozen=True)
class FeatureStage:
    """Computes the features that are missing, and shares all of them.

    Attributes:
        store: the cache, under this encoder's fingerprint.
        worker: encodes, on the pool; each of its processes has a trial's resources.
        map_above: bytes above which an array is mapped from disk rather than put in memory.
    """

    store: FeatureStore
    worker: EncoderWorker
    pool: ActorPool
    map_above: int

    def run(
        self,
        splits: Mapping[str, Split],
        boundaries: Sequence[str],
        max_unreadable: float,
        views: Mapping[str, int] | None = None,
        view_boundaries: Sequence[str] = (),
        progress: Progress = lambda done, total: None,
    ) -> Features:
        """Make the features of splits, less the images that cannot be read.

        Args:
            splits: by name.
            boundaries: where the encoder's activations are wanted.
            max_unreadable: the share of a split's images that may be unreadable.
            views: how many augmented copies to make of each image, by the split's name.
            view_boundaries: those of `boundaries` at which the copies are wanted.
            progress: is called with the images done and the images to do.

        Raises:
            InputError: more than that are unreadable, or all train images of a class are.
        """
        counts = {name: (views or {}).get(name, 0) for name in splits}
        found = {name: self._digests(split) for name, split in splits.items()}
        while True:
            self._compute(found, counts, boundaries, view_boundaries, progress)
            for name, each in found.items():
                each.check(name, max_unreadable)
            readable = {name: each.readable() for name, each in found.items()}
            # Reading may find a damaged shard, which is set aside: compute its rows again.
            with contextlib.suppress(MissingFeaturesError):
                return Features(
                    {
                        name: self._shared(split, boundaries, view_boundaries, counts[name])
                        for name, split in readable.items()
                    },
                    {name: self._content(split) for name, split in readable.items()},
                    [skipped for name, each in found.items() for skipped in each.skipped(name)],
                )

    @cached_property
    def _hashes(self) -> FeatureStore:
        return FeatureStore(self.store.root, HASHES)

    def _digests(self, split: Split) -> SplitDigests:
        unreadable: dict[int, str] = {}

        def digest(row: int) -> str:
            try:
                return self.worker.source.digest(split.keys[row])
            except UnreadableImageError as error:
                unreadable[row] = error.reason
                return ""

        with ThreadPoolExecutor(8) as pool:
            digests = tuple(pool.map(digest, range(len(split))))
        return SplitDigests(replace(split, digests=digests), unreadable)

    def _compute(
        self,
        found: Mapping[str, SplitDigests],
        views: Mapping[str, int],
        boundaries: Sequence[str],
        view_boundaries: Sequence[str],
        progress: Progress,
    ) -> None:
        """Encode what is missing, on all slots; write each job's features as it ends."""
        jobs = [
            EncodeJob(images, view, wanted)
            for view in range(1 + max(views.values()))
            for wanted in (view_boundaries if view else boundaries,)
            for images in self._missing(
                [each.readable() for name, each in found.items() if views[name] >= view],
                view,
                wanted,
            )
        ]
        done, total = 0, sum(len(job.images) for job in jobs)
        for job, result in self.pool.map(EncoderWorker.encode, self.worker, jobs):
            encoded = result_of(result, "features")
            for each in found.values():
                each.drop(encoded.broken)
            self._keep(job, encoded)
            done += len(job.images)
            progress(done, total)

    def _keep(self, job: EncodeJob, encoded: Encoded) -> None:
        read = [image.digest for image in job.images if image.digest not in encoded.broken]
        views = self._views(read, job.view)
        for boundary, array in encoded.features.items():
            self.store.add(boundary, views, {TENSOR: array})
        if encoded.hashes is not None and self._hashes.missing(HASH_BITS, read):
            self._hashes.add(HASH_BITS, read, {TENSOR: encoded.hashes})

    def _missing(
        self, splits: Sequence[Split], view: int, boundaries: Sequence[str]
    ) -> Iterator[list[ImageRef]]:
        """Yield the images of each job: all whose features in this view are not complete."""
        keys = {
            digest: key
            for split in splits
            for digest, key in zip(split.digests or (), split.keys, strict=True)
        }
        views = self._views(keys, view)
        rows = {row for boundary in boundaries for row in self.store.missing(boundary, views)}
        if view == 0:
            rows |= set(self._hashes.missing(HASH_BITS, views))
        images = [ImageRef(digest, key) for digest, key in keys.items()]
        wanted = [images[row] for row in sorted(rows)]
        return _chunks(wanted, self.worker.batch_size, self.pool.slots)

    def _views(self, digests: Iterable[str], view: int) -> list[str]:
        return [self.worker.augmentation.view_digest(digest, view) for digest in digests]

    def _content(self, split: Split) -> SplitContent:
        return SplitContent(split, self._hashes.load(HASH_BITS, split.digests or ())[TENSOR])

    def _shared(
        self, split: Split, boundaries: Sequence[str], view_boundaries: Sequence[str], views: int
    ) -> SharedSplit:
        return SharedSplit(
            split.labels,
            {boundary: self._share(split, boundary, 0) for boundary in boundaries},
            {
                boundary: tuple(self._share(split, boundary, 1 + view) for view in range(views))
                for boundary in view_boundaries
            },
            split.group_ids,
        )

    def _share(self, split: Split, boundary: str, view: int) -> SharedArray:
        digests = self._views(split.digests or (), view)
        one = self.store.load(boundary, digests[:1])[TENSOR]
        if one.nbytes * len(digests) > self.map_above:
            array = self.store.map(boundary, digests)[TENSOR]
            assert isinstance(array, np.memmap)
            return SharedArray(Path(str(array.filename)))
        return SharedArray(ray.put(self.store.load(boundary, digests)[TENSOR]))


@dataclass(frozen=True, eq=False)
class SplitDigests:
    """A split whose images have been digested, and why some cannot be read, by row.

    The digest of an unreadable file is empty.
    """

    split: Split
    unreadable: dict[int, str]

    def readable(self) -> Split:
        """Make a split of the readable images."""
        return self.split.without(list(self.unreadable))

    def drop(self, broken: Mapping[str, str]) -> None:
        """Note images, by digest, whose content turned out not to be an image."""
        for row, digest in enumerate(self.split.digests or ()) if broken else ():
            if digest in broken:
                self.unreadable[row] = broken[digest]

    def skipped(self, name: str) -> list[Skipped]:
        """List the unreadable images, in the split's order."""
        keys, unreadable = self.split.keys, self.unreadable
        return [Skipped(name, keys[row], unreadable[row]) for row in sorted(unreadable)]

    def check(self, name: str, max_unreadable: float) -> None:
        """Raise InputError if too much of the split is unreadable."""
        if not self.unreadable:
            return
        row = min(self.unreadable)
        example = f"{self.split.keys[row]}: {self.unreadable[row]}"
        if len(self.unreadable) > max_unreadable * len(self.split):
            raise InputError(
                f"data: {len(self.unreadable)} of {len(self.split)} {name} images are "
                f"unreadable ({example}); data.max_unreadable allows a share of {max_unreadable:g}"
            )
        remaining = set(self.readable().labels.tolist())
        if name == "train" and (lost := set(self.split.labels.tolist()) - remaining):
            raise InputError(
                f"data.source: every train image of class number {min(lost)} is unreadable "
                f"({example}); every class needs one"
            )


def _chunks(images: list[ImageRef], batch_size: int, slots: int) -> Iterator[list[ImageRef]]:
    """Yield the images of each job: a few batches, so that every slot is busy to the end."""
    size = max(batch_size, min(4 * batch_size, -(-len(images) // (4 * slots))))
    for begin in range(0, len(images), size):
        yield images[begin : begin + size]
