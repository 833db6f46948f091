"""Conversion of bytes and pixels to 8-bit RGB images."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

DECODE_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # missing, truncated, unidentified
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's plugins raise when a file is damaged, hostile or not an image."""


def decode(content: bytes) -> Image.Image:
    """Decode a whole image (the first frame of several) to RGB, turned as EXIF says.

    Raises:
        Exception: one of DECODE_ERRORS, if `content` is truncated or not an image.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB: transparency over white, 16-bit grey scaled down by 257.

    Files of 32-bit integers and floats do not state their range, so the values' own range is used.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        over_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(over_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def pixel_digest(image: Image.Image) -> str:
    """Compute the SHA-256 (hex) of mode, size and pixels, for images that are not files."""
    header = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
