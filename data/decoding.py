"""Bytes and pixels to 8-bit RGB images."""

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
"""What Pillow's plugins raise on files that are damaged, hostile or not images."""


def decode(content: bytes) -> Image.Image:
    """The whole image in `content` (the first frame of several) as RGB, EXIF orientation applied.

    Raises:
        one of DECODE_ERRORS: `content` is truncated or not an image.
    """
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: transparency over white, 16-bit grey scaled down by 257.

    32-bit integers and floats, whose range no file states, are stretched to their own range.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        over_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(over_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 (hex) of the image's mode, size and pixels: the digest of images without a file."""
    header = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()


def _from_deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
