"""Arrays larger than memory: filled on disk once, read through a read-only memory map.

A folder holds `0.npy`, `1.npy`, … and `arrays.json`, the arrays' names and checksums in that
order. It appears under its name in one atomic step, complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.features.shards import Arrays
from files import crc32, temporary_beside

Allocate = Callable[[str, tuple[int, ...], DTypeLike], NDArray[Any]]
"""A function that makes an array, given its name, shape and type."""

INDEX = "arrays.json"


def is_intact(folder: Path) -> bool:
    """Say whether `folder` holds the arrays that were written, by reading every byte."""
    try:
        checksums: dict[str, str] = json.loads((folder / INDEX).read_bytes())
        files = [folder / f"{number}.npy" for number in range(len(checksums))]
        return bool(files) and [_checksum(file) for file in files] == list(checksums.values())
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return False


def map_assembled(folder: Path) -> Arrays:
    """Map the arrays of an intact folder, read-only."""
    names: list[str] = list(json.loads((folder / INDEX).read_bytes()))
    return {name: np.load(folder / f"{i}.npy", mmap_mode="r") for i, name in enumerate(names)}


def assemble(folder: Path, fill: Callable[[Allocate], Arrays]) -> None:
    """Make `folder`: `fill` fills arrays that it allocates on disk, and returns them.

    A damaged folder is replaced. If another process makes it meanwhile, that one stays.

    Raises:
        OSError: the disk is full or read-only; `folder` is then as it was.
    """
    temporary = temporary_beside(folder)
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
        try:
            temporary.rename(folder)
        except OSError:
            if not is_intact(folder):  # otherwise another process was faster, with the same result
                _discard(folder)
                temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _discard(folder: Path) -> None:
    doomed = temporary_beside(folder)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return f"{crc32(file):08x}"
