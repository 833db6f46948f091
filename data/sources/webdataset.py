"""The `webdataset:PATTERN` source: images and labels in tar files, in webdataset's way."""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.sources.base import SPLIT_NAMES, EncodedSource, Listing, SourceKind, SplitName
from data.sources.image_files import EXTENSIONS
from errors import InputError, one_line

if TYPE_CHECKING:
    from data.config import SourceConfig

LABELS = ("cls", "txt", "json")
"""Endings of what may hold a sample's label, the first one it has; `label` in a .json."""
MOST_SHARDS = 100_000
LONGEST_LABEL = 1 << 20  # bytes of a member that holds a label
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")

Place = tuple[int, int]
"""Where a member's content lies in its tar file: its offset and its size, in bytes."""


@dataclass(frozen=True)
class TarSource(EncodedSource):
    """Reads images from where they lie in tar files, which stay as they are.

    Attributes:
        folder: the shards' paths start here.
        places: shard, offset and size of each image, by its key.
    """

    folder: Path
    places: Mapping[str, tuple[str, Place]]

    def content(self, key: str) -> bytes:
        """Read the bytes from their place in a shard."""
        shard, place = self.places[key]
        return _content(self.folder / shard, place)


class WebDataset(SourceKind):
    """Tar files of samples: members KEY.jpg and KEY.cls, KEY.txt or KEY.json, one after the other.

    PATTERN is a path with a range, `train-{000..010}.tar`, or with `*`. A shard belongs to the
    split that its own name has as a word, or that its folder is called; to `train` without one.
    """

    place = "PATTERN"

    def check(self, config: SourceConfig) -> None:
        """Raise InputError if there is no such file."""
        _shards(config)

    def canonical(self, config: SourceConfig) -> str | Path:
        """Spell the pattern from the root."""
        return config.path

    def list_images(self, config: SourceConfig) -> Listing:
        """List every image that has a label; reads the tar files' headers and the labels."""
        shards = _shards(config)
        folder = _common_folder(shards)
        places: dict[str, tuple[str, Place]] = {}
        labels: list[str] = []
        splits: list[SplitName] = []
        unlabelled = 0
        for shard in shards:
            name = shard.relative_to(folder).as_posix()
            for sample, members in _samples(shard):
                image = next((end for end in members if f".{end}" in EXTENSIONS), None)
                label = _label(shard, sample, members)
                if image is None or label is None:
                    unlabelled += 1
                    continue
                key = f"{name}/{sample}.{image}"
                if key in places:
                    raise InputError(f"source: {shard} holds {sample}.{image} twice")
                places[key] = name, members[image]
                labels.append(label)
                splits.append(_split(shard))
        if not places:
            raise InputError(
                f"source: {config.source} holds no labelled image; needed are members such as "
                "0001.jpg and 0001.cls"
            )
        told = (f"{unlabelled} samples without an image or a label passed over",)
        return Listing(
            TarSource(folder, places),
            tuple(places),
            tuple(labels),
            tuple(splits),
            passed_over=told if unlabelled else (),
        )


def _shards(config: SourceConfig) -> list[Path]:
    """Find the tar files of a pattern; raises InputError if there are none, or one is missing."""
    pattern = str(config.path)
    span = _RANGE.search(pattern)
    if os.path.isfile(pattern):  # a name may hold [ or *
        return [Path(pattern)]
    found = _ranged(pattern, span) if span else sorted(glob.glob(pattern))
    shards = [Path(name) for name in found[: MOST_SHARDS + 1]]
    if not shards or len(shards) > MOST_SHARDS:
        count = f"more than {MOST_SHARDS} files" if shards else "no file"
        raise InputError(f"source: {count} of the name {pattern!s:.200}")
    if missing := [shard for shard in shards if not os.path.isfile(shard)]:
        raise InputError(f"source: no file {missing[0]!s:.200}")
    return shards


def _ranged(pattern: str, span: re.Match[str]) -> list[str]:
    """Write out the range in a pattern: `a{08..10}` is a08, a09 and a10."""
    first, last = span.groups()
    numbers = range(int(first), min(int(last), int(first) + MOST_SHARDS) + 1)
    before, after = pattern[: span.start()], pattern[span.end() :]
    return [f"{before}{number:0{len(first)}d}{after}" for number in numbers]


def _common_folder(shards: list[Path]) -> Path:
    return next(
        folder for folder in shards[0].parents if all(s.is_relative_to(folder) for s in shards)
    )


def _split(shard: Path) -> SplitName:
    words = [*re.split(r"[^a-z]+", shard.name.lower()), shard.parent.name.lower()]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, Place]]]:
    """Yield each sample's key, and the places of its members by their endings in small letters."""
    key, members = "", dict[str, Place]()
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if not member.isreg() or not stem:
                    continue
                if (sample := f"{folder}{slash}{stem}") != key:
                    if members:
                        yield key, members
                    key, members = sample, {}
                members[ending.lower()] = member.offset_data, member.size
            _content(shard, (tar.offset, tarfile.BLOCKSIZE))  # the block that ends it
    except ValueError:
        raise InputError(
            f"source: {shard} has no end: it was cut off, as by a download that broke off"
        ) from None
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"source: {shard} cannot be read as a tar file ({one_line(error)}); a compressed one "
            "has to be unpacked to a .tar"
        ) from error
    if members:
        yield key, members


def _label(shard: Path, sample: str, members: Mapping[str, Place]) -> str | None:
    """Read the label of a sample; None if it has none."""
    ending = next((ending for ending in LABELS if ending in members), None)
    if ending is None or members[ending][1] > LONGEST_LABEL:
        return None
    try:
        text = _content(shard, members[ending]).decode()
        value = json.loads(text)["label"] if ending == "json" else text
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"source: {shard}: {sample}.{ending} holds no label") from error
    return str(value).strip() or None if isinstance(value, str | int) else None


def _content(shard: Path, place: Place) -> bytes:
    offset, size = place
    with shard.open("rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise ValueError(f"{shard.name} ends too early")
    return content
