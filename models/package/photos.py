"""Photos as the model of this folder takes them; it needs numpy and Pillow, and `preprocess.json`.

`prepared` is what the model was trained on: RGB, turned as EXIF says, white behind transparency.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

HERE = Path(__file__).resolve().parent
MARGIN = 3  # of a photo's side, over the side that the model takes
MAX_ASPECT = 2000  # the sides of a longer strip are no photo's
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


def prepared(path: str | Path) -> Image.Image:
    """Open a photo as 8-bit RGB, turned as its EXIF data say, with white behind it.

    A large one comes smaller by a whole number, with MARGIN times the pixels that the model takes.
    """
    least = MARGIN * max(_preprocessing()["size"])
    if not os.path.isfile(path):  # a pipe would be waited for
        raise ValueError("not a file")
    with Image.open(path) as image:
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise ValueError(f"a strip of {image.width} x {image.height} pixels")
        image.draft(None, (least, least))
        image.load()
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        whole = _to_rgb(image if turn is None else image.transpose(turn))
    factor = min(whole.size) // least
    if factor < 2:
        return whole
    size = round(whole.width / factor), round(whole.height / factor)
    return whole.resize(size, Image.Resampling.BOX)


def _preprocessing() -> dict[str, Any]:
    how: dict[str, Any] = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))
    return how


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":  # 16-bit grey has a known range; that of others is their own
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("a pixel is NaN or infinite")
        deep = image.mode.startswith("I;16")
        low, high = (0, 65535) if deep else (values.min(), values.max())
        scaled = (values - low) * (255 / max(high - low, 1e-12))
        return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def pixels(image: Image.Image) -> NDArray[np.float32]:
    """Return an RGB image as the model takes it, (1, 3, height, width)."""
    how = _preprocessing()
    (height, width), mode = how["size"], how["resize_mode"]
    rows, columns = (math.floor(side / how.get("crop_pct", 1)) for side in (height, width))
    ratios = image.height / rows, image.width / columns
    if mode == "squash":
        size = columns, rows
    elif mode == "shortest" and rows == columns:
        short = min(image.size)
        size = int(columns * image.width / short), int(rows * image.height / short)
    else:
        ratio = max(ratios) if mode == "longest" else min(ratios)
        size = round(image.width / ratio), round(image.height / ratio)
    bilinear = how["interpolation"] == "bilinear"
    filter = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    resized = image.resize(size, filter)
    left, top = (
        (room - side) // 2 if side <= room else -round((side - room) / 2)
        for side, room in zip(size, (width, height), strict=True)
    )
    canvas = Image.new("RGB", (width, height), (how["fill_color"],) * 3)
    canvas.paste(resized, (left, top))
    normal: NDArray[np.float64] = (np.asarray(canvas) / 255 - how["mean"]) / how["std"]
    return normal.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
