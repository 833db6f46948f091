"""Print the class of photos: `python predict.py photo.jpg …`.

It needs onnxruntime, numpy and Pillow, and the files beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
CLASSES, PREPROCESS = (
    json.loads((HERE / name).read_text(encoding="utf-8"))
    for name in ("classes.json", "preprocess.json")
)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say, and convert it to RGB, with white behind it."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # 16-bit grey has a known range; that of others is their own
        values = np.asarray(image).astype(np.float64)
        deep = image.mode.startswith("I;16")
        low, high = (0, 65535) if deep else (values.min(), values.max())
        scaled = (values - low) * (255 / max(high - low, 1e-12))
        return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def preprocess(image: Image.Image) -> NDArray[np.float32]:
    """Return an RGB image as the model takes it, (1, 3, height, width), as open_clip does."""
    (height, width), mode = PREPROCESS["size"], PREPROCESS["resize_mode"]
    bilinear = PREPROCESS["interpolation"] == "bilinear" and (mode != "shortest" or height == width)
    ratios = image.height / height, image.width / width
    if mode == "squash":
        size = width, height
    elif mode == "shortest" and height == width:
        short = min(image.size)
        size = int(width * image.width / short), int(width * image.height / short)
    else:
        ratio = max(ratios) if mode == "longest" else min(ratios)
        size = round(image.width / ratio), round(image.height / ratio)
    filter = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    resized = image.resize(size, filter)
    left, top = (
        (room - side) // 2 if side <= room else -round((side - room) / 2)
        for side, room in zip(size, (width, height), strict=True)
    )
    canvas = Image.new("RGB", (width, height), (PREPROCESS["fill_color"],) * 3)
    canvas.paste(resized, (left, top))
    normal: NDArray[np.float64] = (np.asarray(canvas) / 255 - PREPROCESS["mean"]) / PREPROCESS[
        "std"
    ]
    return normal.transpose(2, 0, 1)[np.newaxis].astype(np.float32)


def printable(text: str) -> str:
    """Spell out what would command a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def main() -> int:
    """Print path, class and probability of every photo; return 1 if one cannot be read."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    code = 0
    for path in sys.argv[1:]:
        try:
            with Image.open(path) as image:
                pixels = preprocess(to_rgb(image))
        except Exception as error:  # whatever a damaged file makes of its reader
            print(f"{printable(path)}: cannot be read: {printable(str(error))}", file=sys.stderr)
            code = 1
            continue
        (probabilities,) = session.run(None, {"pixels": pixels})[0]
        best = int(probabilities.argmax())
        print(f"{printable(path)}\t{printable(CLASSES[best])}\t{probabilities[best]:.4f}")
    return code


if __name__ == "__main__":
    sys.exit(main())
