"""The feature stage: every image through the encoder once, on all devices of the cluster."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from joblib import cpu_count
from numpy.typing import NDArray

from data import (
    FeatureStore,
    ImageSource,
    MissingFeaturesError,
    Split,
    SplitContent,
    UnreadableImageError,
    perceptual_hash,
)
from errors import InputError
from models.augmentation import Augmentation
from models.config import PrecisionName
from models.device import Device, available_device
from models.loading import Pretrained
from models.micro_batches import MicroBatches
from tune.workers.actor_pool import Pool, result_of
from tune.workers.object_store import SharedArray, SharedSplit, share_array

TENSOR = "x"  # every tower supported so far hands one tensor from group to group
HASHES = "perceptual hash"  # kept beside the features: seeing an image once is enough
AHEAD = 2  # batches decoded while one is encoded
Progress = Callable[[int, int], None]
Arrays = dict[str, NDArray[Any]]
Image = tuple[str, str]  # digest and key


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used."""

    split: str
    key: str
    reason: str


@dataclass(frozen=True)
class Features:
    """What the stage has made: each split to share, its readable images, and what they hold."""

    splits: dict[str, SharedSplit]
    images: dict[str, Split]
    contents: dict[str, SplitContent]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Job:
    """Some images, which view of them to encode (0: the images themselves), and how far."""

    images: Sequence[Image]
    view: int
    boundaries: Sequence[str]


@dataclass(frozen=True)
class FeatureStage:
    """Computes what is missing, and shares the rest.

    Args:
        store: the cache, under this encoder's fingerprint.
        pretrained: `Pretrained` in the object store.
        source: reads the images.
        pool: encodes, a trial's resources for each process.
        batch_size: images in one pass.
        dtype: of the stored features.
        precision: what the encoder runs in.
        map_above: bytes of one array above which it is mapped from disk, not put in memory.
        augmentation: draws the views.
    """

    store: FeatureStore
    pretrained: ray.ObjectRef[Pretrained]
    source: ImageSource
    augmentation: Augmentation
    pool: Pool
    batch_size: int
    dtype: str
    precision: PrecisionName
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
        """Features of splits; images that cannot be read drop out of them.

        Args:
            splits: by name.
            views: augmented copies to make of a split's images, by its name.
            view_boundaries: where those are wanted, of `boundaries`.

        Raises:
            InputError: more than `max_unreadable` of a split's images are unreadable, or all
                train images of a class are.
        """
        counts = {name: (views or {}).get(name, 0) for name in splits}
        listings = {name: self._list(split) for name, split in splits.items()}
        while True:
            self._compute(listings, counts, boundaries, view_boundaries, progress)
            for name, listing in listings.items():
                listing.check(name, max_unreadable)
            # Reading may find a damaged shard, which is set aside: compute its rows again.
            images = {n: each.split.without(list(each.unreadable)) for n, each in listings.items()}
            with contextlib.suppress(MissingFeaturesError):
                return Features(
                    {
                        name: SharedSplit(
                            images[name].labels,
                            {b: self._share(listing, b, 0) for b in boundaries},
                            {
                                b: tuple(
                                    self._share(listing, b, 1 + v) for v in range(counts[name])
                                )
                                for b in view_boundaries
                            },
                            images[name].group_ids,
                        )
                        for name, listing in listings.items()
                    },
                    images,
                    {n: self._content(each) for n, each in listings.items()},
                    [s for n, each in listings.items() for s in each.skipped(n)],
                )

    def _list(self, split: Split) -> Listing:
        """Digest every image of a split."""
        unreadable: dict[int, str] = {}

        def digest(row: int) -> str | None:
            try:
                return self.source.digest(split.keys[row])
            except UnreadableImageError as error:
                unreadable[row] = error.reason
                return None

        with ThreadPoolExecutor(8) as pool:
            return Listing(split, list(pool.map(digest, range(len(split)))), unreadable)

    def _compute(
        self,
        listings: Mapping[str, Listing],
        views: Mapping[str, int],
        boundaries: Sequence[str],
        view_boundaries: Sequence[str],
        progress: Progress,
    ) -> None:
        """Encode what is missing, on all slots; write each job's features as it ends."""
        jobs = [
            Job(images, view, wanted)
            for view in range(1 + max(views.values()))
            for wanted in (view_boundaries if view else boundaries,)
            for images in self._missing(
                [each for name, each in listings.items() if views[name] >= view], view, wanted
            )
        ]
        worker = EncoderWorker(
            pretrained=self.pretrained,
            source=self.source,
            augmentation=self.augmentation,
            batch_size=self.batch_size,
            dtype=self.dtype,
            precision=self.precision,
            on_a_node=self.pool.on_a_node,
            gpu_share=self.pool.gpu_share,
        )
        done, total = 0, sum(len(job.images) for job in jobs)
        for job, result in self.pool.map(EncoderWorker.encode, worker, jobs):
            features, broken = result_of(result, "features")
            for listing in listings.values():
                listing.drop(broken)
            written = [
                self.augmentation.view_digest(digest, job.view)
                for digest, _ in job.images
                if digest not in broken
            ]
            for boundary, array in features.items() if written else ():
                self.store.add(boundary, written, {TENSOR: array})
            done += len(job.images)
            progress(done, total)

    def _missing(
        self, listings: Sequence[Listing], view: int, boundaries: Sequence[str]
    ) -> Iterator[list[Image]]:
        """Images that lack something of one of their views, in the portions of jobs."""
        keys = {digest: key for listing in listings for digest, key in listing.readable()}
        images = list(keys.items())
        digests = [self.augmentation.view_digest(digest, view) for digest in keys]
        wanted = (*boundaries, HASHES) if view == 0 else boundaries
        rows = {row for boundary in wanted for row in self.store.missing(boundary, digests)}
        return _chunks([images[row] for row in sorted(rows)], self.batch_size, self.pool.slots)

    def _content(self, listing: Listing) -> SplitContent:
        """What two splits may have in common, image by image."""
        keys = [key for _, key in listing.readable()]
        digests = [digest for digest, _ in listing.readable()]
        return SplitContent(keys, digests, self.store.load(HASHES, digests)[TENSOR])

    def _share(self, listing: Listing, boundary: str, view: int) -> SharedArray:
        """Features of one view of a split's images at one boundary."""
        digests = [self.augmentation.view_digest(digest, view) for digest, _ in listing.readable()]
        one = self.store.load(boundary, digests[:1])[TENSOR]
        if one.nbytes * len(digests) > self.map_above:
            array = self.store.map(boundary, digests)[TENSOR]
            assert isinstance(array, np.memmap)
            return SharedArray(None, Path(str(array.filename)))
        return share_array(self.store.load(boundary, digests)[TENSOR])


@dataclass(frozen=True, eq=False)
class Listing:
    """A split's images by content: the digest of each, or why it has none.

    Args:
        digests: (n,), None for images that cannot be read.
        unreadable: why, by row.
    """

    split: Split
    digests: list[str | None]
    unreadable: dict[int, str]

    def readable(self) -> Iterator[tuple[str, str]]:
        """Yields (digest, key) of every image that can be read, in the split's order."""
        for digest, key in zip(self.digests, self.split.keys, strict=True):
            if digest is not None:
                yield digest, key

    def drop(self, broken: Mapping[str, str]) -> None:
        """Note images, by digest, whose content turned out not to be an image."""
        for row, digest in enumerate(self.digests) if broken else ():
            if digest is not None and digest in broken:
                self.unreadable[row] = broken[digest]
                self.digests[row] = None

    def skipped(self, name: str) -> list[Skipped]:
        return [
            Skipped(name, self.split.keys[r], self.unreadable[r]) for r in sorted(self.unreadable)
        ]

    def check(self, name: str, max_unreadable: float) -> None:
        """Raises InputError where too much of the split is unreadable."""
        if not self.unreadable:
            return
        row = min(self.unreadable)
        example = f"{self.split.keys[row]}: {self.unreadable[row]}"
        if len(self.unreadable) > max_unreadable * len(self.split):
            raise InputError(
                f"data: {len(self.unreadable)} of {len(self.split)} {name} images are "
                f"unreadable ({example}); data.max_unreadable allows a share of {max_unreadable:g}"
            )
        remaining = set(self.split.without(list(self.unreadable)).labels.tolist())
        if name == "train" and (lost := set(self.split.labels.tolist()) - remaining):
            raise InputError(
                f"data.source: every train image of class number {min(lost)} is unreadable "
                f"({example}); every class needs one"
            )


def _chunks(images: list[Image], batch_size: int, slots: int) -> Iterator[list[Image]]:
    """Images of each job: a few batches, so that every slot is busy to the end."""
    size = max(batch_size, min(4 * batch_size, -(-len(images) // (4 * slots))))
    for begin in range(0, len(images), size):
        yield images[begin : begin + size]


@dataclass(frozen=True, eq=False)
class EncoderWorker:
    """Decodes, preprocesses and encodes images, in a process of its own.

    Threads decode the next batches while one is encoded, as many as there are cores a worker on
    its node, by affinity and by a container's quota: nothing else runs meanwhile.
    """

    pretrained: ray.ObjectRef[Pretrained]
    source: ImageSource
    augmentation: Augmentation
    batch_size: int
    dtype: str
    precision: PrecisionName
    on_a_node: int
    gpu_share: float = 1.0

    @cached_property
    def _device(self) -> Device:
        return Device(available_device(self.gpu_share), self.precision)

    @cached_property
    def _loaded(self) -> Pretrained:
        loaded: Pretrained = ray.get(self.pretrained)
        loaded.encoder.to(self._device.torch)
        return loaded

    def encode(self, job: Job) -> tuple[Arrays, dict[str, str]]:
        """Features of the readable images of `job` by boundary, and why the others aren't.

        With the images themselves (view 0) come their perceptual hashes.
        """
        broken: dict[str, str] = {}
        parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in job.boundaries}
        hashes: list[NDArray[np.uint8]] = []
        for batch in self._decoded(job):
            pixels = []
            for digest, found in batch:
                if isinstance(found, UnreadableImageError):
                    broken[digest] = found.reason
                    continue
                pixels.append(found[0])
                hashes += found[1:]
            if pixels:
                for boundary, array in self._crossed(torch.stack(pixels), job.boundaries).items():
                    parts[boundary].append(array)
        features = {b: np.concatenate(arrays) for b, arrays in parts.items() if arrays}
        return features | ({HASHES: np.stack(hashes)} if hashes else {}), broken

    def _decoded(self, job: Job) -> Iterator[list[tuple[str, Any]]]:
        """The images of each batch by digest: pixels, and of view 0 the hash; or the error."""
        _ = self._loaded  # before threads ask for it
        begins = range(0, len(job.images), self.batch_size)
        batches = [job.images[begin : begin + self.batch_size] for begin in begins]
        with ThreadPoolExecutor(max(1, cpu_count() // self.on_a_node)) as pool:
            ahead: deque[list[Future[Any]]] = deque()
            for batch in [*batches, *[()] * AHEAD]:
                ahead.append([pool.submit(self._look, image, job.view) for image in batch])
                if len(ahead) > AHEAD:
                    yield [future.result() for future in ahead.popleft()]

    def _look(self, image: Image, view: int) -> tuple[str, Any]:
        digest, key = image
        try:
            decoded = self.source.image(key)
        except UnreadableImageError as error:
            return digest, error
        if view:
            decoded = self.augmentation.view(decoded, digest, view)
            return digest, (self._loaded.preprocess(decoded),)
        return digest, (self._loaded.preprocess(decoded), perceptual_hash(decoded))

    def _stored(self, x: torch.Tensor, boundary: str) -> NDArray[Any]:
        array = x.float().cpu().numpy().astype(self.dtype)
        if not np.isfinite(array).all():
            raise InputError(
                f"features.dtype: features at {boundary} do not fit {self.dtype}; allowed: float32"
            )
        return array

    @cached_property
    def _portions(self) -> MicroBatches:
        return MicroBatches(self.batch_size)

    def _crossed(self, pixels: torch.Tensor, boundaries: Sequence[str]) -> Arrays:
        """Features of a batch as they are stored."""
        encoder, device = self._loaded.encoder, self._device

        def encoded(size: int) -> Arrays:
            parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in boundaries}
            for portion in pixels.split(size):
                with device.autocast():
                    crossed = encoder.features(portion.to(device.torch), boundaries)
                for boundary, x in crossed.items():
                    parts[boundary].append(self._stored(x, boundary))
            return {boundary: np.concatenate(arrays) for boundary, arrays in parts.items()}

        return self._portions.run(encoded)
