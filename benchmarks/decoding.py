"""What it costs to read photos of 12 megapixels in full, and as they are read for an encoder.

`python -m benchmarks.decoding MODEL FOLDER`: MODEL as in `model.name`, FOLDER of photos, some of
which are enlarged to 12 megapixels and saved as JPEG. The figures are for decoding, preprocessing
and hash on one core, and for how far the embeddings are from those of photos that are read in full:
beside it, how far bfloat16 puts them, and a file saved anew.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import perceptual_hash
from data.decoding import decode, least_side
from data.sources.image_files import images_below
from models.config import ModelConfig
from models.encoder import HEAD
from models.loading import Pretrained, load_pretrained

COUNT = 12
SIZE = (4000, 3000)
QUALITY = 92


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pretrained = load_pretrained(ModelConfig(name=arguments.model, pretrained=None))
    least = least_side(pretrained.size)
    paths, _ = images_below(arguments.folder, arguments.folder.resolve().parent)
    files = [_large(path) for path in random.Random(0).sample(paths, min(COUNT, len(paths)))]
    full, full_hashes, slow = _read(pretrained, files, None)
    small, hashes, fast = _read(pretrained, files, least)
    saved, _, _ = _read(pretrained, [_jpeg(decode(file)) for file in files], None)
    print(
        f"| {len(files)} enlarged photos of 12 megapixels | in full | to {least} pixels | ratio |"
    )
    print("|---|---:|---:|---:|")
    print(f"| ms a photo | {slow:.0f} | {fast:.0f} | {slow / fast:.1f} |\n")
    bits = np.bitwise_count(full_hashes ^ hashes).sum(axis=1)
    embedded = _embedded(pretrained, full)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = _embedded(pretrained, full)
    print("| against embeddings of photos read in full | 1 - cosine | relative norm |")
    print("|---|---:|---:|")
    for name, other in (
        (f"read to {least} pixels", _embedded(pretrained, small)),
        ("saved anew", _embedded(pretrained, saved)),
        ("in bfloat16", rounded),
        ("kept as float16", embedded.half().double()),
    ):
        angle = 1 - torch.nn.functional.cosine_similarity(embedded, other)
        norm = (embedded - other).norm(dim=1) / embedded.norm(dim=1)
        print(f"| {name} | {angle.mean():.1e} | {norm.mean():.1e} |")
    print(f"\nBits of the hash that differ: {bits.mean():.2f}, at most {bits.max()}")


def _large(path: Path) -> bytes:
    """Enlarge a photo to 12 megapixels, and save it as JPEG."""
    return _jpeg(decode(path.read_bytes()).resize(SIZE, Image.Resampling.BICUBIC))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def _read(
    pretrained: Pretrained, files: Sequence[bytes], least: int | None
) -> tuple[torch.Tensor, np.ndarray, float]:
    """Return pixels and hashes of files, and the milliseconds of this thread for each."""
    pixels, hashes = [], []
    began = time.thread_time()
    for file in files:
        image = decode(file, least)
        pixels.append(pretrained.preprocess(image))
        hashes.append(perceptual_hash(image))
    return torch.stack(pixels), np.stack(hashes), 1e3 * (time.thread_time() - began) / len(files)


@torch.no_grad()
def _embedded(pretrained: Pretrained, pixels: torch.Tensor) -> torch.Tensor:
    return pretrained.encoder.features(pixels, [HEAD])[HEAD].double()


if __name__ == "__main__":
    main()
