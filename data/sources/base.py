"""The kinds of sources, what one lists, and how its images are read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from PIL import Image, UnidentifiedImageError

from data.decoding import HEIC_ENDINGS, decode
from errors import InputError

if TYPE_CHECKING:
    from data.config import SourceConfig

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
}
"""The spellings of a split's name, in folders and in CSV columns, in small letters."""

NO_IMAGE = "not an image, or of an unknown format"


class UnreadableImageError(Exception):
    """One image that cannot be read, and why. Pickles, so that it can cross processes."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class ImageSource(Protocol):
    """Reads images by key. It pickles: workers get it and read the images themselves.

    Both methods raise UnreadableImageError for an image that is missing or damaged.
    """

    def digest(self, key: str) -> str:
        """Compute the SHA-256 (hex) of the image's content."""

    def image(self, key: str, least: int | None = None) -> Image.Image:
        """Read the image as RGB, turned as its EXIF orientation says.

        With `least`, it may come smaller, as long as no side gets shorter than that.
        """


@dataclass(frozen=True)
class Listing:
    """What a source holds, one row for each image, before missing splits are drawn.

    Attributes:
        source: reads the images.
        keys: names of the images, unique.
        labels: class name of each image.
        splits: split of each image; a source without splits puts all images in `train`.
        groups: group of each image (no group may straddle splits), or None.
        classes: class names in order; None sorts them.
        passed_over: lines for people on what the source has beside these images.
    """

    source: ImageSource
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[SplitName, ...]
    groups: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    passed_over: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*self.keys, *self.labels):
            # Python reads file names that are not UTF-8 as surrogates, which no file can hold.
            if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
                raise InputError(f"source: the name {name!a} is not UTF-8; rename it")


class SourceKind(ABC):
    """A kind of source, such as `folder`: lists the images of a `SourceConfig`.

    Attributes:
        place: what follows the colon of `data.source`, as messages name it: a PATH, or a word of
            another kind; empty if nothing follows.
        takes_root: whether `data.root` means something to this kind.
    """

    place: ClassVar[str] = "PATH"
    takes_root: ClassVar[bool] = False

    def check(self, config: SourceConfig) -> None:
        """Raise InputError, as `list_images` does, if the source's place is not there."""
        return

    @abstractmethod
    def list_images(self, config: SourceConfig) -> Listing:
        """List every image of a source, without reading any.

        Raises:
            InputError: the source is missing or ill-formed. The message starts with the key at
                fault, such as `source: `; the caller puts the section before it.
        """

    def canonical(self, config: SourceConfig) -> str | Path:
        """Spell the source's place in one way: sources of one kind and place are the same."""
        return config.path.resolve() if self.place == "PATH" else config.place


@contextmanager
def reading(key: str) -> Iterator[None]:
    """Turn any error of reading or decoding the image `key` into UnreadableImageError."""
    try:
        yield
    except UnidentifiedImageError as error:
        heic = PurePath(key).suffix.lower() in HEIC_ENDINGS
        why = "HEIC, and pillow-heif is not installed" if heic else NO_IMAGE
        raise UnreadableImageError(key, why) from error
    except UnreadableImageError:
        raise
    except Exception as error:  # hostile files make Pillow's plugins raise whatever there is
        reason = error.strerror if isinstance(error, OSError) else None
        raise UnreadableImageError(key, reason or str(error) or type(error).__name__) from error


class EncodedSource(ABC):
    """An image source whose images are the bytes of image files."""

    @abstractmethod
    def content(self, key: str) -> bytes:
        """Read the bytes of an image file; any error means that it cannot be read."""

    def digest(self, key: str) -> str:
        """Compute the SHA-256 of the image file's bytes."""
        with reading(key):
            return hashlib.sha256(self.content(key)).hexdigest()

    def image(self, key: str, least: int | None = None) -> Image.Image:
        """Decode the image."""
        with reading(key):
            return decode(self.content(key), least)


@dataclass(frozen=True)
class FileSource(EncodedSource):
    """Reads image files; a key is a path relative to `root`, or absolute."""

    root: Path

    def content(self, key: str) -> bytes:
        """Read the file."""
        return (self.root / key).read_bytes()
