"""The feature stage: every image through the encoder once, on all devices of the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from tune.sharing import SharedArray, SharedSplit, fetch, share_array

TENSOR = "x"  # every tower supported so far hands one tensor from group to group
Progress = Callable[[int, int], None]


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
        slot: resources of one task, as for a trial.
        slots: tasks to keep in flight.
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
        """Encode `rows` in tasks over the cluster; write each task's features as it ends."""
        encode = ray.remote(_encode).options(
            num_cpus=self.slot["CPU"], num_gpus=self.slot.get("GPU", 0), max_retries=2
        )
        options = (self.batch_size, self.dtype, self.precision)
        chunks = _chunks(rows, self.batch_size, 4 * self.batch_size, self.slots)
        waiting: dict[Any, list[int]] = {}
        done = 0
        while True:
            for chunk in chunks:
                keys = [split.keys[row] for row in chunk]
                task = encode.remote(
                    (self.pretrained,), self.source, keys, list(boundaries), *options
                )
                waiting[task] = chunk
                if len(waiting) >= 2 * self.slots:
                    break
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), num_returns=1)
            chunk = waiting.pop(ready[0])
            features, errors = ray.get(ready[0])
            unreadable.update({chunk[i]: reason for i, reason in errors.items()})
            written = [str(digests[row]) for i, row in enumerate(chunk) if i not in errors]
            for boundary, array in features.items() if written else ():
                self.store.add(boundary, written, {TENSOR: array})
            done += len(chunk)
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


def _chunks(rows: list[int], smallest: int, largest: int, slots: int) -> Iterator[list[int]]:
    """Rows in tasks: large ones for little overhead, small enough to keep every slot busy."""
    size = max(smallest, min(largest, -(-len(rows) // (4 * slots))))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _encode(
    pretrained_ref: tuple[ray.ObjectRef[Pretrained]],  # Ray would resolve a bare one, each time
    source: ImageSource,
    keys: list[str],
    boundaries: list[str],
    batch_size: int,
    dtype: str,
    precision_name: PrecisionName,
) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """One task: features by boundary of the readable images, and why the others aren't."""
    pretrained: Pretrained = fetch(pretrained_ref[0])
    precision = Precision(available_device(), precision_name)
    encoder = pretrained.encoder.to(precision.device)
    parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in boundaries}
    unreadable: dict[int, str] = {}
    for begin in range(0, len(keys), batch_size):
        pixels = []
        for i in range(begin, min(begin + batch_size, len(keys))):
            try:
                pixels.append(pretrained.preprocess(source.image(keys[i])))
            except UnreadableImageError as error:
                unreadable[i] = error.reason
        if not pixels:
            continue
        with precision.autocast():
            crossed = encoder.features(torch.stack(pixels).to(precision.device), boundaries)
        for boundary, x in crossed.items():
            parts[boundary].append(x.float().cpu().numpy().astype(dtype))
    arrays = {boundary: np.concatenate(pieces) for boundary, pieces in parts.items() if pieces}
    return arrays, unreadable
