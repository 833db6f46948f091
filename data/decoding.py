"""Conversion of bytes and pixels to 8-bit RGB images."""

from __future__ import annotations

import hashlib
import io
from functools import cache

import numpy as np
from PIL import ExifTags, Image

HEIC_ENDINGS = frozenset((".heic", ".heif", ".hif"))
DECODING = 1
"""Goes up when the pixels of images change; features and runs of before are kept apart."""
MARGIN = 3
"""The shorter side of a large photo keeps this many times the encoder's pixels, or more.
`python -m benchmarks.decoding` measures what that changes in the features."""
MAX_ASPECT = 2000  # sides of a longer strip take gigabytes once the shorter one fits an encoder

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


def least_side(size: tuple[int, int]) -> int:
    """Return how small a side of an image may come that an encoder is to see in `size`."""
    return MARGIN * max(size)


def decode(content: bytes, least: int | None = None) -> Image.Image:
    """Decode a whole image (the first frame of several) to RGB, turned as EXIF says.

    With `least`, a larger image comes smaller by a whole number, with no side below `least`: a JPEG
    from fewer of its frequencies, which takes a fraction of the time, and any as means of squares.

    Raises:
        Exception: of whatever kind Pillow raises, if `content` is truncated or not an image; or
            ValueError, if it is a strip whose sides differ by more than MAX_ASPECT times.
    """
    reads_heic()
    with Image.open(io.BytesIO(content)) as image:
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise ValueError(f"a strip of {image.width} x {image.height} pixels")
        if least:
            image.draft(None, (least, least))
        image.load()
        # ImageOps.exif_transpose also writes all tags anew, which fails on odd ones.
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        whole = to_rgb(image if turn is None else image.transpose(turn))
    factor = min(whole.size) // least if least else 1
    if factor < 2:
        return whole
    # Image.reduce would keep a part of a square at the edge as a whole one, which shifts the rest.
    size = round(whole.width / factor), round(whole.height / factor)
    return whole.resize(size, Image.Resampling.BOX)


@cache
def reads_heic() -> bool:
    """Let Pillow read HEIC, if the package pillow-heif is there; return whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB: transparency over white, 16-bit grey scaled down by 257.

    Files of 32-bit integers and floats do not state their range, so the values' own range is used.

    Raises:
        ValueError: a pixel is NaN or infinite.
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
    if not np.isfinite(values).all():
        raise ValueError("a pixel is NaN or infinite")
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
