"""Arrays larger than memory: filled on disk once, read through a read-only memory map.

A folder holds `0.npy`, `1.npy`, … and `arrays.json`, the arrays' names and checksums in that
order. It appears under its name in one atomic step, complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.features.shards import Arrays

Allocate = Callable[[str, tuple[int, ...], DTypeLike], NDArray[Any]]
"""Makes an array of a name, shape and type."""

INDEX = "arrays.json"


def open_assembled(folder: Path) -> Arrays | None:
    """Read-only memory maps of the arrays in `folder`; None if absent or damaged.

    Reads every byte once, to verify the checksums.
    """
    try:
        checksums: dict[str, str] = json.loads((folder / INDEX).read_bytes())
        paths = {name: folder / f"{number}.npy" for number, name in enumerate(checksums)}
        if any(_checksum(paths[name]) != checksums[name] for name in checksums):
            return None
        return map_assembled(folder)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def map_assembled(folder: Path) -> Arrays:
    """The same maps, of a folder that `open_assembled` has verified before."""
    names: list[str] = list(json.loads((folder / INDEX).read_bytes()))
    return {
        name: np.load(folder / f"{number}.npy", mmap_mode="r") for number, name in enumerate(names)
    }


def assemble(folder: Path, fill: Callable[[Allocate], Arrays]) -> None:
    """Makes `folder`: `fill` gets a function that allocates arrays on disk, and fills them.

    A folder that is there gives way, but for one that another process made meanwhile.

    Raises:
        OSError: the disk is full or read-only; `folder` is then as it was.
    """
    _discard(folder)
    temporary = _temporary(folder)
    temporary.mkdir(parents=True)
    paths: dict[str, Path] = {}

    def allocate(name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        paths[name] = path = temporary / f"{len(paths)}.npy"
        array: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk fails here, not as SIGBUS at a write
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    try:
        for array in fill(allocate).values():
            array.flush()  # type: ignore[attr-defined]  # a memmap: `allocate` made it
        checksums = {name: _checksum(path) for name, path in paths.items()}
        (temporary / INDEX).write_text(json.dumps(checksums))
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and its result is as good
            raise


def _discard(folder: Path) -> None:
    doomed = _temporary(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}.tmp")


def _checksum(path: Path) -> str:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"
