"""Augmented copies of images, drawn once: their features are cached like any other."""

from __future__ import annotations

import hashlib
import math
import threading

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from models.config import AugmentationConfig

# torchvision draws from the process's one generator, and images are decoded by several threads.
DRAWING = threading.Lock()


class Augmentation:
    """Draws views of images, in `size`: height and width of the encoder's input."""

    def __init__(self, config: AugmentationConfig, size: tuple[int, int]) -> None:
        self.size = size
        self._config = config
        jitter = config.color_jitter
        self._crop = v2.RandomResizedCrop(
            size, config.scale, config.ratio, InterpolationMode.BICUBIC, antialias=True
        )
        self._jitter = v2.ColorJitter(jitter, jitter, jitter)

    def view(self, image: Image.Image, digest: str, number: int) -> Image.Image:
        """Draw view `number` (from 1) of the image with this digest: always the same one."""
        seed = int(self.view_digest(digest, number)[:15], 16)
        with DRAWING, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's, which draws and is restored
            crop = self._crop.make_params([image])
            mirrored = bool(torch.rand(1) < self._config.flip)
            jitter = self._jitter.make_params([image])
        # Outside the lock: threads are there to do this at the same time.
        view: Image.Image = self._crop.transform(image, crop)
        if mirrored:
            view = v2.functional.horizontal_flip(view)
        jittered: Image.Image = self._jitter.transform(view, jitter)
        return jittered

    @property
    def enlargement(self) -> float:
        """How many times larger a view may show a side of its image."""
        low, high = self._config.ratio
        return math.sqrt(max(high, 1 / low) / self._config.scale[0])

    def view_digest(self, digest: str, number: int) -> str:
        """Make a digest of the view; that of view 0, the image itself, is `digest`."""
        if number == 0:
            return digest
        what = f"{digest} {self._config.model_dump_json()} {self.size} {number}"
        return hashlib.sha256(what.encode()).hexdigest()
