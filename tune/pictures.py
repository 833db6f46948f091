"""Thumbnails of the images that a run's report shows, beside the run: it reads no other images."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from PIL import Image

from data import Dataset, ImageSource, UnreadableImageError
from files import replacing
from records import PICTURES, picture_path
from report import read_run, wanted

SIDE, LONGEST = 96, 960  # pixels of the short side, and the most of the long one
QUALITY = 70


def save_pictures(run_dir: Path, dataset: Dataset) -> None:
    """Keep a thumbnail of each image that the report wants, and no other.

    It comes after the final fits, as it reads test images. One that cannot be read has none.
    """
    named = wanted(read_run(run_dir))
    places = {picture_path(run_dir, split, key): (split, key) for split, key in named}
    for path in {*(run_dir / PICTURES).glob("*.webp")} - places.keys():
        path.unlink()
    for path, (split, key) in places.items():
        source = _source(dataset, split)
        if source is None or path.exists():
            continue
        with suppress(UnreadableImageError):
            _save(source.image(key, 2 * SIDE), path)


def _source(dataset: Dataset, split: str) -> ImageSource | None:
    """Find what reads the images of a split; None for a test set that is left out now."""
    if split in ("train", "val"):
        return dataset.source
    return dataset.tests[split].source if split in dataset.tests else None


def _save(image: Image.Image, path: Path) -> None:
    scale = min(1.0, SIDE / min(image.size), LONGEST / max(image.size))
    width, height = (max(1, round(scale * side)) for side in image.size)
    with replacing(path) as place:
        image.resize((width, height), reducing_gap=2).save(place, "webp", quality=QUALITY)
