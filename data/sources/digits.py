"""The `digits` source: 1,797 scans of handwritten digits that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from data.decoding import pixel_digest
from data.sources.base import Listing, reading

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class DigitsSource:
    """8x8 scans, drawn as 24x24 RGB images: resized to 20x20, with 2 black pixels around."""

    def digest(self, key: str) -> str:
        """SHA-256 of the drawn image's pixels."""
        return pixel_digest(self.image(key))

    def image(self, key: str) -> Image.Image:
        """The scan `digits/NNNN`."""
        with reading(key):
            scan = _digits().images[int(key.removeprefix("digits/"))]
        grey = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        resized = grey.resize((20, 20), Image.Resampling.BILINEAR)
        return ImageOps.expand(resized, border=2, fill=0).convert("RGB")


def list_digits() -> Listing:
    """All scans, undivided."""
    targets = _digits().target
    return Listing(
        source=DigitsSource(),
        keys=tuple(f"digits/{row:04d}" for row in range(len(targets))),
        labels=tuple(CLASSES[target] for target in targets),
        splits=tuple("train" for _ in targets),
        classes=CLASSES,
    )


@cache
def _digits() -> Any:
    from sklearn.datasets import load_digits  # slow to import, and needed by this source alone

    return load_digits()
