"""What a source of images is, how one fails, and the source that reads files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image, UnidentifiedImageError

from data.decoding import DECODE_ERRORS, decode
from errors import InputError

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""The spellings of a split's name, in folders and in CSV columns."""


class UnreadableImageError(Exception):
    """One image cannot be read; the others can. Crosses processes (it pickles)."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class ImageSource(Protocol):
    """Images by key. Picklable: it is shipped to workers, which read the images themselves."""

    def digest(self, key: str) -> str:
        """SHA-256 (hex) of the image's content.

        Raises:
            UnreadableImageError: the content is missing or cannot be read.
        """

    def image(self, key: str) -> Image.Image:
        """The image: RGB, turned as its EXIF orientation says.

        Raises:
            UnreadableImageError: it is missing, truncated or not an image.
        """


@dataclass(frozen=True)
class Listing:
    """What a source holds, one row an image, before missing splits are drawn.

    The functions that make one raise InputErrors that start with the key at fault, such as
    `source: `; `data.sources.listing` puts the section before it.

    Attributes:
        source: reads the images.
        keys: names of the images, unique.
        labels: class name of each image.
        splits: split of each image; a source that divides nothing puts all in `train`.
        groups: group of each image (rows of a group must not straddle splits), or None.
        classes: the order of the class names, or None for the sorted one.
    """

    source: ImageSource
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[SplitName, ...]
    groups: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in (*self.keys, *self.labels):
            # Names of files that are no UTF-8 come with surrogates, which no file takes.
            if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
                raise InputError(f"source: the name {name!a} is not UTF-8; rename it")


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Turns whatever reading or decoding the image `key` raises into UnreadableImageError."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnreadableImageError(key, "not an image, or of an unknown format") from error
    except DECODE_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise UnreadableImageError(key, reason or str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class FileSource:
    """Images in files; a key is a path relative to `root`, or absolute."""

    root: Path

    def digest(self, key: str) -> str:
        """SHA-256 of the file's bytes."""
        with reading(key):
            return hashlib.sha256((self.root / key).read_bytes()).hexdigest()

    def image(self, key: str) -> Image.Image:
        """The decoded file."""
        with reading(key):
            return decode((self.root / key).read_bytes())
