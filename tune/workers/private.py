"""A folder for Ray's files that other users of the machine cannot enter."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from errors import InputError

# Sockets lie in the folder, and the path of a socket has 107 bytes at most. Of these Ray takes
# `/ray/session_2026-11-28_21-12-59_123456_1234567/sockets/plasma_store.1`.
LONGEST = 107 - 70
NEEDED = 50 << 20  # bytes for Ray's logs


def private_folder() -> Path:
    """Return the folder of this user's Rays, and make it if need be, open to its owner alone.

    Ray opens its own folders below it to everybody, and workers run code from there. The folder
    lies in `RAY_TMPDIR`, else in the system's temporary folder.

    Raises:
        InputError: the path is too long, cannot be made, or is somebody else's.
    """
    name = f"clip-search-{os.getuid()}"
    mend = "; set RAY_TMPDIR to a folder of your own with a short path"
    try:
        base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).resolve()
        folder = base / name
        if not str(folder).isascii():
            raise InputError(f"{folder} has other letters than ASCII's, which Ray cannot use{mend}")
        if len(os.fsencode(folder)) > LONGEST:
            raise InputError(f"{folder} is too long for Ray's sockets, whose paths lie in it{mend}")
        base.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        about, free = folder.lstat(), shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"Ray needs a temporary folder: {error}{mend}") from None
    if free < NEEDED:
        raise InputError(f"{folder} has {free >> 20} MB free, and Ray writes its logs there{mend}")
    own = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
    if not own or about.st_mode & 0o077 or open_to_all(folder):
        raise InputError(f"{folder} is not yours alone (mode 700), and Ray runs code there{mend}")
    return folder


def open_to_all(path: Path) -> Path | None:
    """Return the folder on the way to `path` in which every user may replace what lies there.

    None if there is no such folder, or if others cannot enter one above it.
    """
    path = path.resolve()
    for folder in [*reversed(path.parents), path]:
        mode = folder.stat().st_mode
        if not mode & (stat.S_IXGRP | stat.S_IXOTH):
            return None
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return folder
    return None
