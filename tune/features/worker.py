"""What encodes images: one process for each slot, with threads that decode."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from joblib import cpu_count
from numpy.typing import NDArray

from data import ImageSource, UnreadableImageError, perceptual_hash, reading
from data.decoding import least_side
from data.features import Arrays, Digested, digest_images
from errors import InputError
from models.augmentation import Augmentation
from models.config import PrecisionName
from models.device import Device
from models.encoder import HEAD
from models.loading import Pretrained
from models.micro_batches import MicroBatches
from records import EncoderTimed
from tune.features.speed import LEAST, WarmUp
from tune.workers.own_device import given_share, own_device

AHEAD = 2  # batches decoded while one is encoded


class ImageRef(NamedTuple):
    """An image's content and the name under which its source reads it."""

    digest: str
    key: str


@dataclass(frozen=True)
class EncodeJob:
    """Some images, which view of them to encode (0: the images themselves), and how far.

    Attributes:
        hashed: whether to hash them, too, while they are at hand; only in view 0.
    """

    images: Sequence[ImageRef]
    view: int
    boundaries: Sequence[str]
    hashed: bool = False

    def without(self, broken: Collection[str]) -> list[str]:
        """List the digests of the images, less some."""
        return [image.digest for image in self.images if image.digest not in broken]


@dataclass(frozen=True)
class Encoded:
    """What came out of a job.

    Attributes:
        features: of the readable images, by boundary; empty if there are none.
        hashes: (readable, bytes) perceptual hashes; None if they were not wanted or there are none.
        broken: why an image cannot be read, by its digest.
        speed: of the fastest batch that reached the embedding: threads that decode slow others.
    """

    features: Arrays
    hashes: NDArray[np.uint8] | None
    broken: dict[str, str]
    speed: EncoderTimed | None


@dataclass(frozen=True, eq=False)
class EncoderWorker:
    """Decodes, preprocesses and encodes images, in a process of its own.

    Threads decode the next batches while one is encoded. Nothing else runs meanwhile, so the
    workers of a node share its cores, as affinity and a container's quota allow.

    Attributes:
        part: which of the encoders that are joined in `pretrained`; 0 where none are.
    """

    pretrained: ray.ObjectRef[Pretrained]
    source: ImageSource
    augmentation: Augmentation
    batch_size: int
    dtype: str
    precision: PrecisionName
    on_a_node: int
    part: int = 0

    @property
    def least(self) -> int:
        """The side below which no image is reduced when it is decoded."""
        return least_side(self.augmentation.size)

    @property
    def _threads(self) -> int:
        return max(1, int(cpu_count()) // self.on_a_node)

    @cached_property
    def _device(self) -> Device:
        return Device(own_device(), self.precision)

    @cached_property
    def _loaded(self) -> Pretrained:
        whole: Pretrained = ray.get(self.pretrained)
        loaded = whole.parts[self.part]
        loaded.encoder.to(self._device.torch)
        return loaded

    def digest(self, keys: Sequence[str]) -> Digested:
        """Read images and digest their contents."""
        return digest_images(self.source, keys, self._threads)

    def encode(self, job: EncodeJob) -> Encoded:
        """Encode, and perhaps hash, the images of a job."""
        broken: dict[str, str] = {}
        parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in job.boundaries}
        hashes: list[NDArray[np.uint8]] = []
        rates: list[float] = []
        for batch in self._decoded(job):
            pixels = []
            for digest, found in batch:
                if isinstance(found, UnreadableImageError):
                    broken[digest] = found.reason
                    continue
                pixels.append(found[0])
                hashes += found[1:]
            if pixels:
                arrays, seconds = self._crossed(torch.stack(pixels), job.boundaries)
                for boundary, array in arrays.items():
                    parts[boundary].append(array)
                if HEAD in job.boundaries and len(pixels) >= min(LEAST, self.batch_size):
                    rates.append(len(pixels) / seconds)
        features = {b: np.concatenate(arrays) for b, arrays in parts.items() if arrays}
        speed = EncoderTimed(max(rates), self._described) if rates else None
        return Encoded(features, np.stack(hashes) if hashes else None, broken, speed)

    def _decoded(self, job: EncodeJob) -> Iterator[list[tuple[str, Any]]]:
        """Yield each batch as (digest, (pixels, perhaps a hash) or the error) of its images."""
        _ = self._loaded  # before threads ask for it
        begins = range(0, len(job.images), self.batch_size)
        batches = [job.images[begin : begin + self.batch_size] for begin in begins]
        with ThreadPoolExecutor(self._threads) as pool:
            ahead: deque[list[Future[Any]]] = deque()
            for batch in [*batches, *[()] * AHEAD]:
                ahead.append([pool.submit(self._look, image, job) for image in batch])
                if len(ahead) > AHEAD:
                    yield [future.result() for future in ahead.popleft()]

    def _look(self, image: ImageRef, job: EncodeJob) -> tuple[str, Any]:
        try:
            with reading(image.key):
                if job.view:
                    least = math.ceil(self.least * self.augmentation.enlargement)
                    decoded = self.source.image(image.key, least)
                    decoded = self.augmentation.view(decoded, image.digest, job.view)
                    return image.digest, (self._loaded.preprocess(decoded),)
                decoded = self.source.image(image.key, self.least)
                hashes = (perceptual_hash(decoded),) if job.hashed else ()
                return image.digest, (self._loaded.preprocess(decoded), *hashes)
        except UnreadableImageError as error:
            return image.digest, error

    def _stored(self, x: torch.Tensor, boundary: str) -> NDArray[Any]:
        stored = x.to(getattr(torch, self.dtype))  # there, so that less comes back
        sound, fits = torch.stack([x.isfinite().all(), stored.isfinite().all()]).tolist()
        if not sound:
            half = self._device.precision != "float32"
            where, allowed = "model", "an encoder with sound weights"
            if half:
                where, allowed = "model.precision", f"float32, or {allowed}"
            raise InputError(
                f"{where}: features at {boundary} are infinite or not numbers in "
                f"{self._device.precision}; allowed: {allowed}"
            )
        if not fits:
            raise InputError(
                f"features.dtype: features at {boundary} do not fit {self.dtype}; allowed: float32"
            )
        array: NDArray[Any] = stored.cpu().numpy()
        return array

    @cached_property
    def _portions(self) -> MicroBatches:
        return MicroBatches(self.batch_size)

    @cached_property
    def _warm_up(self) -> WarmUp:
        return WarmUp()

    @cached_property
    def _described(self) -> str:
        name, share = self._device.describe(), given_share()
        return f"{share:.2g} of a {name}" if 0 < share < 1 else name

    def _crossed(self, pixels: torch.Tensor, boundaries: Sequence[str]) -> tuple[Arrays, float]:
        """Encode a batch; return its features as they are stored, and the encoder's seconds."""
        encoder, device = self._loaded.encoder, self._device

        def encoded(size: int) -> tuple[Arrays, float]:
            parts: dict[str, list[NDArray[Any]]] = {boundary: [] for boundary in boundaries}
            seconds = 0.0
            for portion in pixels.split(size):
                began = time.perf_counter()
                with device.autocast():
                    crossed = encoder.features(portion.to(device.torch), boundaries)
                device.wait()
                seconds += time.perf_counter() - began
                for boundary, x in crossed.items():
                    parts[boundary].append(self._stored(x, boundary))
            return {b: np.concatenate(arrays) for b, arrays in parts.items()}, seconds

        return self._warm_up.timed(lambda: self._portions.run(encoded))
