"""The feature stage: images go through an encoder once each, on all devices of the cluster.

Ray Data is not used: it adds 12 s of start-up (measured) to every search, and each search would
still have to look up which images are in the store already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import ray
from numpy.typing import NDArray

from data import (
    MissingFeaturesError,
    Split,
    SplitContent,
)
from errors import InputError
from models.joined import join_arrays
from records import EncoderTimed
from tune.features.cache import EncoderCache
from tune.features.digesting import digests_of
from tune.features.speed import together
from tune.features.writer import FeatureWriter, Written
from tune.workers.actor_pool import ActorPool, result_of
from tune.workers.object_store import NOT_MADE, UNREADABLE, JoinedRows, SharedArray, SharedSplit

Progress = Callable[[int, int], None]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used."""

    split: str
    key: str
    reason: str


@dataclass(frozen=True)
class Features:
    """What the stage has made: handles to each split's features, and its readable images.

    `speed` is the encoder's, by this stage or, where all features were there, by one before.
    """

    splits: dict[str, SharedSplit]
    contents: dict[str, SplitContent]
    skipped: list[Skipped]
    speed: EncoderTimed | None = None


@dataclass(frozen=True)
class FeatureStage:
    """Computes the features that are missing, and shares all of them.

    Attributes:
        caches: of the encoder, or of each of those whose embeddings are joined.
        map_above: bytes above which an array stays on disk rather than be put in memory.
    """

    caches: tuple[EncoderCache, ...]
    pool: ActorPool
    map_above: int

    def run(
        self,
        splits: Mapping[str, Split],
        boundaries: Sequence[str],
        max_unreadable: float,
        views: Mapping[str, int] | None = None,
        view_boundaries: Sequence[str] = (),
        needed: Mapping[str, Rows] | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Features:
        """Make the features of the images that are needed, less those that cannot be read.

        No other image is read.

        Args:
            splits: by name.
            boundaries: where the encoder's activations are wanted.
            max_unreadable: the share of a split's needed images that may be unreadable.
            views: how many augmented copies to make of each image, by the split's name.
            view_boundaries: those of `boundaries` at which the copies are wanted.
            needed: rows of the splits, increasing; of one that is not named, all are needed.
            progress: is called with the images done and the images to do.

        Raises:
            InputError: more than that are unreadable.
        """
        counts = {name: (views or {}).get(name, 0) for name in splits}
        rows = {name: np.arange(len(split)) for name, split in splits.items()} | dict(needed or {})
        measured: list[list[EncoderTimed]] = [[] for _ in self.caches]
        with self.pool:  # whoever digests goes on to encode
            found = self._digested(splits, rows)
            while True:
                self._compute(found, counts, boundaries, view_boundaries, progress, measured)
                for name, each in found.items():
                    each.check(name, max_unreadable)
                # Reading may find a damaged shard, which is set aside: compute its rows again.
                with contextlib.suppress(MissingFeaturesError):
                    return Features(
                        {
                            name: self._shared(each, boundaries, view_boundaries, counts[name])
                            for name, each in found.items()
                        },
                        {name: self._content(each.readable()) for name, each in found.items()},
                        [skipped for name, each in found.items() for skipped in each.skipped(name)],
                        together([c.speed(m) for c, m in zip(self.caches, measured, strict=True)]),
                    )

    def _digested(
        self, splits: Mapping[str, Split], rows: Mapping[str, Rows]
    ) -> dict[str, SplitDigests]:
        needed = {name: split.select(rows[name]) for name, split in splits.items()}
        keys = [key for split in needed.values() for key in split.keys]
        first = self.caches[0]
        digests, unreadable = digests_of(keys, first.worker, self.pool, first.store.root)
        found, begin = {}, 0
        for name, split in needed.items():
            end = begin + len(split)
            own = {row - begin: why for row, why in unreadable.items() if begin <= row < end}
            digested = replace(split, digests=tuple(digests[begin:end]))
            found[name] = SplitDigests(digested, own, rows[name], len(splits[name]))
            begin = end
        return found

    def _compute(
        self,
        found: Mapping[str, SplitDigests],
        views: Mapping[str, int],
        boundaries: Sequence[str],
        view_boundaries: Sequence[str],
        progress: Progress,
        measured: Sequence[list[EncoderTimed]],
    ) -> None:
        """Have what is missing encoded and written, on all slots.

        `measured` takes how fast each encoder was in each job that timed it. An image that one of
        them cannot have is left out for all.
        """
        work = [
            [
                job
                for view in range(1 + max(views.values()))
                for job in cache.jobs(
                    _keys(each.readable() for name, each in found.items() if views[name] >= view),
                    view,
                    view_boundaries if view else boundaries,
                    self.pool.slots,
                    hashed=cache is self.caches[0],
                )
            ]
            for cache in self.caches
        ]
        done, total = 0, sum(len(job.images) for jobs in work for job in jobs)
        for cache, jobs, speeds in zip(self.caches, work, measured, strict=True):
            for job, result in self.pool.map(FeatureWriter.write, cache.writer, jobs):
                written: Written = result_of(result, "features")
                for each in found.values():
                    each.drop(written.broken)
                cache.writer.adopt(job, written)
                done += len(job.images)
                progress(done, total)
                if written.speed:
                    speeds.append(written.speed)

    def _content(self, split: Split) -> SplitContent:
        return SplitContent(split, self.caches[0].hashes(split.digests or ()))

    def _shared(
        self,
        found: SplitDigests,
        boundaries: Sequence[str],
        view_boundaries: Sequence[str],
        views: int,
    ) -> SharedSplit:
        split = found.readable()
        return SharedSplit(
            split.labels,
            {boundary: self._share(split, boundary, 0) for boundary in boundaries},
            {
                boundary: tuple(self._share(split, boundary, 1 + view) for view in range(views))
                for boundary in view_boundaries
            },
            found.places(),
        )

    def _share(self, split: Split, boundary: str, view: int) -> SharedArray:
        digests = split.digests or ()
        one = [cache.load(boundary, digests[:1], view) for cache in self.caches]
        if sum(array.nbytes for array in one) * len(digests) > self.map_above:
            rows = [cache.locate(boundary, digests, view) for cache in self.caches]
            return SharedArray(JoinedRows(tuple(rows)) if len(rows) > 1 else rows[0])
        arrays = [cache.load(boundary, digests, view) for cache in self.caches]
        return SharedArray(ray.put(join_arrays(arrays) if len(arrays) > 1 else arrays[0]))


@dataclass(frozen=True, eq=False)
class SplitDigests:
    """The needed images of a split, digested, and why some cannot be read, by their position.

    The digest of an unreadable file is empty.

    Attributes:
        rows: the images' positions in the split as listed, which has `listed` images.
    """

    split: Split
    unreadable: dict[int, str]
    rows: Rows
    listed: int

    def readable(self) -> Split:
        """Make a split of the readable images."""
        return self.split.without(list(self.unreadable))

    def places(self) -> Rows:
        """Find, for each listed image, its position among the readable ones."""
        places = np.full(self.listed, NOT_MADE)
        places[self.rows] = UNREADABLE
        kept = np.delete(self.rows, list(self.unreadable))
        places[kept] = np.arange(len(kept))
        return places

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
                f"data: {len(self.unreadable)} of the {len(self.split)} {name} images used are "
                f"unreadable ({example}); data.max_unreadable allows a share of {max_unreadable:g}"
            )


def _keys(splits: Iterable[Split]) -> dict[str, str]:
    """Return the key of an image of each content, by digest."""
    return {
        digest: key
        for split in splits
        for digest, key in zip(split.digests or (), split.keys, strict=True)
    }
