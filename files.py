"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import sys
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from errors import InputError


def check_folder(folder: Path, key: str) -> None:
    """Raises InputError if `folder` neither is a folder one may write to nor can become one."""
    place = nearest(folder)
    if not place.is_dir():
        raise InputError(f"{key}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{key}: cannot write to {place}")


def expanded(path: Path | str, key: str) -> Path:
    """A path with `~` and `~user` replaced; raises InputError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}: {path}: {error}") from None


def nearest(path: Path) -> Path:
    """The nearest ancestor that exists, or `path` itself."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""A disk that takes no more."""


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Says in one line that a disk took no more, whatever library met that: `folder`'s, unless the
    error names a file elsewhere."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and _code(cause) not in FULL:
            cause = cause.__cause__ or cause.__context__
        if cause is None or isinstance(error, InputError):
            raise
        reason = os.strerror(_code(cause) or 0)
        raise InputError(
            f"{_place(cause, folder)}: cannot be written to ({reason}); what was done is kept: "
            "make room, then --resume"
        ) from error


def _place(error: BaseException, folder: Path) -> Path:
    """`folder`, unless the error names a file elsewhere."""
    named = getattr(error, "filename", None)
    if isinstance(named, str) and not Path(named).absolute().is_relative_to(folder.absolute()):
        return Path(named)
    return folder


def _code(error: BaseException) -> int | None:
    """The operating system's number of an error, of those of libraries in Rust too."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = getattr(error, "errno", None)
    return int(told[1]) if told else number


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to write to; it replaces `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Name a hidden place beside `path` that no other process on any machine uses."""
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def crc32(file: IO[bytes], size: int | None = None) -> int:
    """Compute the CRC-32 of the next `size` bytes of a file, or of all that is left of it."""
    crc, left = 0, sys.maxsize if size is None else size
    while block := file.read(min(left, 1 << 24)):
        crc = zlib.crc32(block, crc)
        left -= len(block)
    return crc
