"""Paths that users give, and files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import InputError


def check_folder(folder: Path, key: str) -> None:
    """Check that `folder` can be written to, or made.

    Args:
        folder: the folder, which need not exist yet.
        key: the option or key it comes from, for the error.

    Raises:
        InputError: it cannot.
    """
    place = nearest(folder)
    if not place.is_dir():
        raise InputError(f"{key}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{key}: cannot write to {place}")


def expanded(path: Path | str, key: str) -> Path:
    """Return a path with `~` and `~user` replaced.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{key}: {path}: {error}") from None


def nearest(path: Path) -> Path:
    """Return the nearest ancestor that exists, or `path` itself."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to write to; it replaces `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
