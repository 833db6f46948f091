"""Images of 16 bits or of floats, and how much of their range they use."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

from data.decoding import to_rgb
from data.sources import FileSource, ImageSource

SAMPLE = 16  # images that are looked at
NARROW = 0.3  # share of the range of 16 bits below which images come out dark
FEW_LEVELS = 16  # of 256 grey levels: photos have more


def narrow_range(source: ImageSource, keys: Sequence[str]) -> list[str]:
    """Warn if deep images among a sample of files use little of their range: they become dark."""
    if not isinstance(source, FileSource):
        return []
    found = []
    for key in random.Random(0).sample(keys, min(SAMPLE, len(keys))):
        try:
            with Image.open(source.root / key) as image:
                if _is_deep(image):
                    found.append(_used(image))
        except Exception:  # it will be told as unreadable
            continue
    if not found:
        return []
    share = max(high for _, high, _ in found) - min(low for low, _, _ in found)
    levels = max(levels for _, _, levels in found)
    if share >= NARROW and levels >= FEW_LEVELS:
        return []
    return [
        f"{len(found)} of {min(SAMPLE, len(keys))} training images looked at have 16 bits or more, "
        f"and use {100 * share:.0f}% of that range: at most {levels} of 256 grey levels remain"
    ]


def _is_deep(image: Image.Image) -> bool:
    """Whether its file holds more than 8 bits a channel, as far as Pillow says; read no pixel."""
    decoders = str(getattr(image, "tile", ""))  # such as ("raw", …, "RGB;16B")
    return image.mode in ("I", "F") or ";16" in image.mode or ";16" in decoders


def _used(image: Image.Image) -> tuple[float, float, int]:
    """The lowest and highest value as shares of the file's range, and the number of levels."""
    grey = np.asarray(to_rgb(image).convert("L"))
    full = np.asarray(image) / 65535 if image.mode.startswith("I;16") else grey / 255
    return float(full.min()), float(full.max()), len(np.unique(grey))
