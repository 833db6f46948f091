"""A file of features: safetensors, written whole or not at all, checked when read.

The header holds the digests of the rows and a CRC-32 of everything else: the digests, the arrays'
names, types and shapes, and their bytes. So that a row can be read alone, it has a CRC-32 of each,
too, and one of what tells where they are. Shards of earlier commits lack these.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the rows of an array lie in a shard.

    Attributes:
        start: byte of the file at which they begin.
        dtype, shape: of a row.
        sums: CRC-32 of each row, (n,).
    """

    start: int
    dtype: str
    shape: tuple[int, ...]
    sums: NDArray[np.uint32]


def write_shard(path: Path, digests: Sequence[str], arrays: Arrays) -> None:
    """Write `arrays`, whose rows belong to `digests`, to `path` in one atomic step.

    Without digests, arrays have no rows that could be read alone. If the disk is full or
    read-only, `path` stays as it was.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {"digests": json.dumps(list(digests)), "crc32": _checksum(digests, contiguous)}
    if digests:
        sums = {name: row_sums(array) for name, array in contiguous.items()}
        rows = {
            name: [array.dtype.str, array.shape[1:], sums[name].astype(">u4").tobytes().hex()]
            for name, array in contiguous.items()
        }
        metadata["rows"] = json.dumps(rows)
        metadata["places_crc32"] = _places_checksum(metadata)
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


def read_places(path: Path) -> tuple[list[str], dict[str, Placed]] | None:
    """Read from a shard's header its digests and where each array lies, and verify the header.

    Returns:
        None for a shard of an earlier commit, which has no checksums of rows.

    Raises:
        CorruptShardError: the header is damaged, or the file too short for what it tells.
    """
    try:
        begin, header, size = _header(path)
        metadata = header["__metadata__"]
        if "rows" not in metadata:
            return None
        if metadata["places_crc32"] != _places_checksum(metadata):
            raise CorruptShardError(f"{path}: checksum of its header differs")
        digests: list[str] = json.loads(metadata["digests"])
        found = {}
        for name, (dtype, shape, sums) in json.loads(metadata["rows"]).items():
            first, last = header[name]["data_offsets"]
            row = math.prod(shape) * np.dtype(dtype).itemsize
            if last - first != row * len(digests) or begin + last > size:
                raise CorruptShardError(f"{path}: {last - first} bytes of {name}")
            known = np.frombuffer(bytes.fromhex(sums), ">u4").astype(np.uint32)
            found[name] = Placed(begin + first, dtype, tuple(shape), known)
        return digests, found
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptShardError(f"{path}: {error}") from error


def places_of(path: Path, arrays: Arrays) -> dict[str, Placed]:
    """Find where the arrays lie that `read_shard` has read from a shard."""
    begin, header, _ = _header(path)
    return {
        name: Placed(
            begin + header[name]["data_offsets"][0],
            *(array.dtype.str, array.shape[1:], row_sums(array)),
        )
        for name, array in arrays.items()
    }


def row_sums(array: NDArray[Any]) -> NDArray[np.uint32]:
    """Compute the CRC-32 of each row of a contiguous array, (n,)."""
    rows = array.reshape(len(array), -1).view(np.uint8)
    return np.fromiter((zlib.crc32(row.data) for row in rows), np.uint32, len(rows))


def _header(path: Path) -> tuple[int, dict[str, Any], int]:
    """Return the byte at which the arrays begin, the header, and the file's bytes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise ValueError("the file is too short for its header")
        header: dict[str, Any] = json.loads(file.read(length))
        return 8 + length, header, size


def _places_checksum(metadata: Mapping[str, str]) -> str:
    return f"{zlib.crc32((metadata['digests'] + metadata['rows']).encode()):08x}"


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
