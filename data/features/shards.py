"""A file of features: safetensors, written whole or not at all, checked when read.

The header holds the digests of the rows and a CRC-32 of everything else: the digests, the arrays'
names, types and shapes, and their bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from files import replacing

Arrays = dict[str, NDArray[Any]]


class CorruptShardError(Exception):
    """A shard's bytes are not those that were written."""


def write_shard(path: Path, digests: Sequence[str], arrays: Arrays) -> None:
    """Write `arrays`, whose rows belong to `digests`, to `path` in one atomic step.

    If the disk is full or read-only, `path` stays as it was.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"digests": json.dumps(list(digests)), "crc32": _checksum(digests, contiguous)}
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(save(contiguous, metadata))


def read_digests(path: Path) -> list[str]:
    """Read the digests of a shard's rows from its header alone, without verifying them.

    Raises:
        CorruptShardError: the header is damaged or the file too short for it.
    """
    with _opened(path) as file:
        digests: list[str] = json.loads(file.metadata()["digests"])
        return digests


def array_starts(path: Path) -> dict[str, int]:
    """Find the byte at which each array of an intact shard begins."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    del header["__metadata__"]
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}


def read_shard(path: Path) -> tuple[list[str], Arrays]:
    """Read a shard's digests and arrays, and verify its checksum.

    Raises:
        CorruptShardError: a byte of them differs from what was written.
    """
    with _opened(path) as file:
        metadata = file.metadata()
        digests: list[str] = json.loads(metadata["digests"])
        arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("crc32") != _checksum(digests, arrays):
        raise CorruptShardError(f"{path}: checksum differs")
    return digests, arrays


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="np") as file:
            yield file
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise CorruptShardError(f"{path}: {error}") from error


def _checksum(digests: Sequence[str], arrays: Arrays) -> str:
    crc = zlib.crc32(json.dumps(list(digests)).encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"
