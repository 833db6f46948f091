"""Digests of images, and those of files that have not changed: a run that starts again reads none.

    <root>/files/<name>   of one source's files: path, size and times of each, and its digest

As in git's index, a file is the same as long as its size and times are: of its last change
(`mtime`) and of the last change of its entry (`ctime`), which no program can set. What changes
bytes below the file system, such as a failing disk, is not seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from data.features.shards import Arrays, CorruptShardError, read_shard, write_shard
from data.sources import FileSource, ImageSource, UnreadableImageError
from errors import InputError

SETTLED = 60 * 10**9
"""Nanoseconds for which a file must have been as it is when it is read, to be told by its times.

Another change within one tick of the file system's clock, 2 s at most, would leave them as they
are (git calls such files racily clean). The rest is for clocks of machines that differ.
"""
UNKNOWN = (-1, -1, -1)
THREADS = 8  # a network file system answers many at once
PART = 256  # files that a thread asks for at once

Stamps = NDArray[np.int64]
"""Of each file its size in bytes and its `mtime` and `ctime` in nanoseconds, (n, 3)."""


@dataclass(frozen=True, eq=False)
class Digested:
    """What some images hold.

    Attributes:
        digests: of each image, in hexadecimal; empty where it cannot be read.
        unreadable: why some cannot be read, by their positions.
        stamps: of their files, (n, 3); `UNKNOWN` where they do not tell of the next change.
    """

    digests: list[str]
    unreadable: dict[int, str]
    stamps: Stamps


def digest_images(source: ImageSource, keys: Sequence[str], threads: int = THREADS) -> Digested:
    """Read images and digest their contents."""
    unreadable: dict[int, str] = {}

    def digest(row: int) -> str:
        try:
            return source.digest(keys[row])
        except UnreadableImageError as error:
            unreadable[row] = error.reason
            return ""

    now = time.time_ns()
    stamps = file_stamps(source, keys)  # before: a change meanwhile shows in the next ones
    stamps[stamps[:, 1:].max(axis=1, initial=0) > now - SETTLED] = UNKNOWN
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(digest, range(len(keys))))
    return Digested(digests, unreadable, stamps)


def file_stamps(source: ImageSource, keys: Sequence[str]) -> Stamps:
    """Ask for sizes and times of images' files; `UNKNOWN` of what is not there or is no file."""
    stamps = np.full((len(keys), 3), UNKNOWN, np.int64)
    if not _is_of_files(source):
        return stamps

    def ask(begin: int) -> None:
        for row in range(begin, min(begin + PART, len(keys))):
            with contextlib.suppress(OSError, ValueError):
                found = os.stat(os.path.join(source.root, keys[row]))
                stamps[row] = found.st_size, found.st_mtime_ns, found.st_ctime_ns

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(0, len(keys), PART)))
    return stamps


class KnownFiles:
    """The digests of a source's files that were read before, in a file of the cache.

    A file that is damaged, gone or not to be written is as good as none. Of two processes that
    write at once the last one wins. Of sources that are not files nothing is known.

    Args:
        root: the cache directory.
        source: reads the images.
    """

    def __init__(self, root: Path, source: ImageSource) -> None:
        self._path: Path | None = None
        self._rows: dict[str, int] = {}
        self._stamps: Stamps = np.empty((0, 3), np.int64)
        self._digests: NDArray[np.uint8] = np.empty((0, 32), np.uint8)
        if _is_of_files(source):
            self._root = source.root
            name = hashlib.sha256(os.fsencode(source.root.absolute())).hexdigest()[:32]
            self._path = root / "files" / name
            with contextlib.suppress(OSError, CorruptShardError, LookupError, ValueError):
                self._read(self._path)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, keys: Sequence[str], stamps: Stamps) -> list[str]:
        """Return the digest of each file that is as it was; empty of the others."""
        if not self._rows:
            return [""] * len(keys)
        rows = np.fromiter((self._rows.get(key, -1) for key in keys), np.int64, len(keys))
        same = (rows >= 0) & (self._stamps[rows] == stamps).all(axis=1)
        content = self._digests.tobytes()
        return [
            content[32 * row : 32 * row + 32].hex() if is_same else ""
            for row, is_same in zip(rows.tolist(), same.tolist(), strict=True)
        ]

    def add(self, keys: Sequence[str], digested: Digested) -> None:
        """Note files that were read, in place of what was known of them, and write the file.

        As it is written anyway, what was known of files that are no longer there is left out.
        """
        told = (digested.stamps != UNKNOWN).all(axis=1) & np.array(
            [*map(bool, digested.digests)], bool
        )
        new = np.flatnonzero(told).tolist()
        if self._path is None or not new:
            return
        self._forget_deleted()
        for row in new:
            self._rows.setdefault(keys[row], len(self._rows))
        stamps = np.empty((len(self._rows), 3), np.int64)
        digests = np.empty((len(self._rows), 32), np.uint8)
        stamps[: len(self._stamps)], digests[: len(self._digests)] = self._stamps, self._digests
        places = [self._rows[keys[row]] for row in new]
        stamps[places] = digested.stamps[new]
        content = bytes.fromhex("".join(digested.digests[row] for row in new))
        digests[places] = np.frombuffer(content, np.uint8).reshape(-1, 32)
        self._stamps, self._digests = stamps, digests
        names = np.frombuffer("\0".join(self._rows).encode(), np.uint8)
        arrays: Arrays = {"keys": names, "stamps": stamps, "digests": digests}
        with contextlib.suppress(OSError, InputError):
            write_shard(self._path, [], arrays)

    def _forget_deleted(self) -> None:
        """Forget files that their folders no longer list: to ask for each would take longer."""
        listed: dict[str, set[str] | None] = {}
        kept = {}
        for key, row in self._rows.items():
            folder, name = os.path.split(key)
            if folder not in listed:
                listed[folder] = self._names_in(folder)
            names = listed[folder]
            if names is None or name in names:
                kept[key] = row
        if len(kept) < len(self._rows):
            rows = np.fromiter(kept.values(), np.int64, len(kept))
            self._stamps, self._digests = self._stamps[rows], self._digests[rows]
            self._rows = {key: row for row, key in enumerate(kept)}

    def _names_in(self, folder: str) -> set[str] | None:
        """List a folder of the source; None if it cannot be, and may be there all the same."""
        try:
            return set(os.listdir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except (OSError, ValueError):
            return None

    def _read(self, path: Path) -> None:
        _, arrays = read_shard(path)
        keys = arrays["keys"].tobytes().decode().split("\0")
        stamps, digests = arrays["stamps"], arrays["digests"]
        if (stamps.shape, digests.shape) == ((len(keys), 3), (len(keys), 32)):
            self._rows = {key: row for row, key in enumerate(keys)}
            self._stamps, self._digests = stamps, digests


def _is_of_files(source: ImageSource) -> TypeGuard[FileSource]:
    """Whether an image is all that its file holds; a subclass may make something else of it."""
    return type(source) is FileSource
