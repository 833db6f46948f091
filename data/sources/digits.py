"""The `digits` source: 1,797 scans of handwritten digits that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from data.decoding import pixel_digest
from data.sources.base import Listing, SourceKind, reading

if TYPE_CHECKING:
    from data.config import SourceConfig

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class DigitsSource:
    """Draws the 8x8 scans as 24x24 RGB images: resized to 20x20, with a black edge of 2 pixels."""

    def digest(self, key: str) -> str:
        """Compute the SHA-256 of the drawn image's pixels."""
        return pixel_digest(self.image(key))

    def image(self, key: str, least: int | None = None) -> Image.Image:
        """Draw the scan `digits/NNNN`."""
        with reading(key):
            scan = _digits().images[int(key.removeprefix("digits/"))]
        grey = Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8))
        resized = grey.resize((20, 20), Image.Resampling.BILINEAR)
        return ImageOps.expand(resized, border=2, fill=0).convert("RGB")


class Digits(SourceKind):
    """All scans, undivided."""

    place = ""

    def list_images(self, config: SourceConfig) -> Listing:
        """List all scans."""
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
