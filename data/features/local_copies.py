"""Copies of shards on a machine's own disk, each made by the first process that reads a row of it.

A copy is used as long as its rows have the checksums that they have in the cache. Nothing rests on
it: whatever is wrong with the disk, rows are read from the cache.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from data.features.shards import CorruptShardError, read_shard
from files import nearest

log = logging.getLogger(__name__)

RESERVE = 1 << 30  # bytes of the disk that are left to others
BLOCK = 1 << 24

_refused: set[Path] = set()
"""What this process tries no more: folders that take no copy, and copies that were damaged."""


def local_copy(shard: Path, folder: Path) -> Path | None:
    """Return the copy of a shard in a folder of this machine, made now if it is not there.

    Returns:
        None if the cache is to be read: another process is about to copy it, there is no room, or
        the shard or the disk is damaged.
    """
    copy = folder / shard.name
    if copy in _refused:
        return None
    try:
        if copy.is_file():  # of a folder that takes no more, there may be copies
            return copy
        return copy if folder not in _refused and _copied(shard, copy) else None
    except FileNotFoundError:  # the shard has gone, as whoever reads it will find
        return None
    except CorruptShardError:
        _refused.add(copy)
    except OSError as error:
        if folder not in _refused:
            why = error.strerror or error
            log.warning("features.local: %s: %s; other shards are read from the cache", folder, why)
        _refused.update((folder, copy))
    return None


def drop(copy: Path) -> None:
    """Remove a copy that is damaged, and make no other."""
    _refused.add(copy)
    with contextlib.suppress(OSError):
        copy.unlink()


def room_for_copies(folder: Path, encoders: Iterable[str]) -> int:
    """Return the bytes that copies may take in a folder, those included that it holds.

    `encoders` are what the names of their features begin with; nobody removes the copies of others.
    """
    held = room = 0
    with contextlib.suppress(OSError):  # the disk is damaged, or not ours
        for encoder in encoders:
            held += sum(copy.stat().st_size for copy in folder.glob(f"{encoder}*/*/*.safetensors"))
    with contextlib.suppress(OSError):
        place = nearest(folder)
        if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            room = max(0, shutil.disk_usage(place).free - RESERVE)
    return held + room


def _copied(shard: Path, copy: Path) -> bool:
    """Copy a shard, and check the copy; returns False if another process does."""
    size = shard.stat().st_size
    copy.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(copy.parent).free < size + RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # Its name is the same for all processes, so that none is left by one that is killed.
    temporary = copy.with_name(f".{copy.name}.tmp")
    with temporary.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not _is_at(temporary, file):  # it got its name, or was removed, before the lock
            return False
        try:
            if not copy.is_file():
                file.truncate(0)
                with shard.open("rb") as source:
                    shutil.copyfileobj(source, file, BLOCK)
                file.flush()
                read_shard(temporary)
                os.replace(temporary, copy)
            return True
        finally:
            temporary.unlink(missing_ok=True)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
