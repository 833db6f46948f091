"""The feature stage: every image through the encoder once, on all devices of the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from data import FeatureStore, ImageSource, MissingFeaturesError, Split, UnreadableImageError
from errors import InputError
from models.loading import Pretrained
from models.precision import Precision, PrecisionName, available_device
from tune.pool import over_slots
from tune.sharing import SharedArray, SharedSplit, share_array

TENSOR = "x"  # every tower supported so far hands one tensor from group to group
Progress = Callable[[int, int], None]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used."""

    split: str
    key: str
    reason: str


@dataclass(frozen=True)
class FeatureStage:
    """Computes what is missing, and shares the rest.

    Args:
        store: the cache, under this encoder's fingerprint.
        pretrained: `Pretrained` in the object store.
        source: reads the images.
        slot: resources of one encoder, as of one trial.
        slots: encoders at once.
        batch_size: images in one pass.
        dtype: of the stored features.
        precision: what the encoder runs in.
        map_above: bytes of one array above which it is mapped from disk, not put in memory.
    """

    store: FeatureStore
    pretrained: ray.ObjectRef[Pretrained]
    source: ImageSource
    slot: dict[str, float]
    slots: int
    batch_size: int
    dtype: str
    precision: PrecisionName
    map_above: int

    def run(
        self,
        name: str,
        split: Split,
        boundaries: Sequence[str],
        max_unreadable: float,
        progress: Progress = lambda done, total: None,
    ) -> tuple[SharedSplit, list[Skipped]]:
        """Features of a split at `boundaries`; images that cannot be read drop out of it.

        Raises:
            InputError: more than `max_unreadable` of the images are unreadable, or all images of
                a class are.
        """
        digests, unreadable = self._digests(split)
        shared = None
        while shared is None:
            while missing := self._missing(boundaries, digests):
                self._compute(split, digests, missing, boundaries, unreadable, progress)
                digests = [None if row in unreadable else d for row, d in enumerate(digests)]
            self._check(name, split, unreadable, max_unreadable)
            kept = [digest for digest in digests if digest is not None]
            # Reading may find a damaged shard, which is set aside: compute its rows again.
            with contextlib.suppress(MissingFeaturesError):
                shared = {boundary: self._share(boundary, kept) for boundary in boundaries}
        readable = split.without(list(unreadable))
        skipped = [Skipped(name, split.keys[row], unreadable[row]) for row in sorted(unreadable)]
        return SharedSplit(readable.labels, shared), skipped

    def _digests(self, split: Split) -> tuple[list[str | None], dict[int, str]]:
        """Each image's digest, None for an unreadable one, and why it is."""
        unreadable: dict[int, str] = {}

        def digest(row: int) -> str | None:
            try:
                return self.source.digest(split.keys[row])
            except UnreadableImageError as error:
                unreadable[row] = error.reason
                return None

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(digest, range(len(split)))), unreadable

    def _missing(self, boundaries: Sequence[str], digests: Sequence[str | None]) -> list[int]:
        """Rows, of distinct content, that lack their features at any boundary."""
        rows = [row for row, digest in enumerate(digests) if digest is not None]
        known = [digest for digest in digests if digest is not None]
        missing = {i for boundary in boundaries for i in self.store.missing(boundary, known)}
        return [rows[i] for i in sorted(missing)]

    def _compute(
        self,
        split: Split,
        digests: Sequence[str | None],
        rows: list[int],
        boundaries: Sequence[str],
        unreadable: dict[int, str],
        progress: Progress,
    ) -> None:
        """Encode `rows` on all slots; write each job's features as it ends."""
        chunks = _chunks(rows, self.batch_size, self.slots)
        jobs = ([(row, split.keys[row]) for row in chunk] for chunk in chunks)
        worker = EncoderWorker(
            self.pretrained,
            self.source,
            tuple(boundaries),
            *(self.batch_size, self.dtype, self.precision),
        )
        done = 0
        for job, result in over_slots(EncoderWorker.encode, worker, jobs, self.slot, self.slots):
            if isinstance(result, Exception):
                raise result
            features, errors = result
            unreadable.update(errors)
            written = [str(digests[row]) for row, _ in job if row not in errors]
            for boundary, array in features.items() if written else ():
                self.store.add(boundary, written, {TENSOR: array})
            done += len(job)
            progress(done, len(rows))

    def _check(
        self, name: str, split: Split, unreadable: dict[int, str], max_unreadable: float
    ) -> None:
        if not unreadable:
            return
        row = min(unreadable)
        example = f"{split.keys[row]}: {unreadable[row]}"
        if len(unreadable) > max_unreadable * len(split):
            raise InputError(
                f"data.source: {len(unreadable)} of {len(split)} {name} images are unreadable "
                f"({example}); data.max_unreadable allows a share of {max_unreadable:g}"
            )
        remaining = set(split.without(list(unreadable)).labels.tolist())
        if name == "train" and (lost := set(split.labels.tolist()) - remaining):
            raise InputError(
                f"data.source: every train image of class number {min(lost)} is unreadable "
                f"({example}); every class needs one"
            )

    def _share(self, boundary: str, digests: Sequence[str]) -> SharedArray:
        distinct = len(set(digests))
        sample = self.store.load(boundary, digests[:1])[TENSOR]
        if sample.nbytes * distinct > self.map_above:
            array = self.store.map(boundary, digests)[TENSOR]
            assert isinstance(array, np.memmap)
            return SharedArray(None, Path(str(array.filename)))
        return share_array(self.store.load(boundary, digests)[TENSOR])


def _chunks(rows: list[int], batch_size: int, slots: int) -> Iterator[list[int]]:
    """Rows of each job: a few batches, so that every slot is busy to the end."""
    size = max(batch_size, min(4 * batch_size, -(-len(rows) // (4 * slots))))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


@dataclass(frozen=True, eq=False)
class EncoderWorker:
    """Decodes, preprocesses and encodes images, in a process of its own."""

    pretrained: ray.ObjectRef[Pretrained]
    source: ImageSource
    boundaries: tuple[str, ...]
    batch_size: int
    dtype: str
    precision: PrecisionName

    @cached_property
    def _device(self) -> Precision:
        return Precision(available_device(), self.precision)

    @cached_property
    def _loaded(self) -> Pretrained:
        loaded: Pretrained = ray.get(self.pretrained)
        loaded.encoder.to(self._device.device)
        return loaded

    def encode(self, job: list[tuple[int, str]]) -> tuple[Arrays, dict[int, str]]:
        """Features of the readable images of `job` by boundary, and why the others aren't.

        Args:
            job: (row, key) of each image.
        """
        unreadable: dict[int, str] = {}
        parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in self.boundaries}
        for begin in range(0, len(job), self.batch_size):
            pixels = []
            for row, key in job[begin : begin + self.batch_size]:
                try:
                    pixels.append(self._loaded.preprocess(self.source.image(key)))
                except UnreadableImageError as error:
                    unreadable[row] = error.reason
            if pixels:
                for boundary, x in self._crossed(torch.stack(pixels)).items():
                    parts[boundary].append(x.float().cpu().numpy().astype(self.dtype))
        return {b: np.concatenate(arrays) for b, arrays in parts.items() if arrays}, unreadable

    def _crossed(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        encoder = self._loaded.encoder
        with self._device.autocast():
            return encoder.features(pixels.to(self._device.device), self.boundaries)
