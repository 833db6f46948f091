"""Paths that users give, and files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import uuid
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from errors import InputError, one_line

_UMASK = os.umask(0)  # it can be read by setting it alone
os.umask(_UMASK)
READABLE = 0o666 & ~_UMASK
"""The mode of a new file, where its folder has no rules of its own."""


def check_folder(folder: Path, key: str) -> None:
    """Raise InputError, which names the option `key`, unless a folder can be written to or made.

    It makes a folder there and removes it: the rights of a place do not tell what root may do.
    """
    place = nearest(folder)
    if not place.is_dir():
        is_what = "a link to nothing" if place.is_symlink() else "not a folder"
        raise InputError(f"{key}: {place} is {is_what}")
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=place):
            pass
    except OSError as error:
        raise InputError(f"{key}: cannot write to {place}: {error.strerror}") from None


def check_file(path: Path, what: str, ending: str, taken: Collection[str] = ()) -> None:
    """Raise InputError if a file cannot be written at `path`; `what` names the option.

    It has the `ending`, so that no photo is overwritten, and none of the names that are `taken`.
    """
    check_folder(path.parent, what)
    if path.is_dir():
        raise InputError(f"{what}: {path} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{what}: {path} is no regular file; name another")
    if path.suffix.lower() != ending:
        raise InputError(f"{what}: {path} does not end in {ending}")
    if path.name in taken:
        raise InputError(f"{what}: a run keeps its own {path.name}; name another file")


def expanded(path: Path | str, key: str) -> Path:
    """Replace `~` and `~user`; raises InputError, which names `key`, if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}: {path}: {error}") from None


def reason(error: Exception) -> str:
    """Say why a file cannot be read, without Python's numbers and without its path."""
    if isinstance(error, OSError):
        return str(error.strerror)
    return "it is not UTF-8 text" if isinstance(error, UnicodeError) else one_line(error)


def is_url(text: str) -> bool:
    """Whether a text is an address such as https://… rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None


def nearest(path: Path) -> Path:
    """Return the nearest ancestor that exists, or `path` itself."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if os.path.lexists(p))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to write to; it replaces `path` if the block succeeds.

    It is on the disk before it has the name, so that a power cut leaves the old or the new one. A
    link stays one.

    Raises:
        InputError: `path` is a folder, or a device.
    """
    path = path.resolve()
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path} is no regular file; name another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
            mode = os.fstat(file.fileno()).st_mode
            if READABLE & ~mode:  # safetensors writes for the owner alone
                os.fchmod(file.fileno(), mode | READABLE)
        if path.is_dir():
            raise InputError(f"{path} is a folder; move it away, as a file is to be written there")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; it becomes `path` if the block succeeds.

    `path` is not there yet, or is an empty folder.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_beside(path: Path) -> Path:
    """Name a hidden place beside `path` that no other process on any machine uses."""
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


class Summed:
    """Writes on to a file, and keeps the CRC-32 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.crc = file, 0
        self.flush = file.flush

    def write(self, block: bytes | memoryview) -> int:
        """Write a block behind those before it."""
        self.crc = zlib.crc32(block, self.crc)
        return self._file.write(block)


def crc32(file: IO[bytes], size: int | None = None) -> int:
    """Compute the CRC-32 of the next `size` bytes of a file, or of all that is left of it."""
    crc, left = 0, sys.maxsize if size is None else size
    while block := file.read(min(left, 1 << 24)):
        crc = zlib.crc32(block, crc)
        left -= len(block)
    return crc
