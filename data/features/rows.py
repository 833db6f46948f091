"""Rows of many shards as one array that stays on disk: for features larger than memory."""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.features.local_copies import drop, local_copy
from data.features.shards import CorruptShardError, read_shard
from errors import InputError


class LostFeaturesError(InputError):
    """Rows of features that are no longer what was written."""


@dataclass(frozen=True, eq=False)
class ShardRows:
    """A read-only array (n, …) whose rows lie in shards.

    The shards are the array, so that it grows with them. Rows are read when they are asked for:
    a memory map would have Linux read far ahead of each, and keep a file open for each shard.

    Attributes:
        shards: files.
        starts: byte of each file at which its rows begin.
        places: (n, 2) number of the shard, and row in it, of each position.
        sums: (n,) CRC-32 of the row at each position.
        shape: of a row.
        dtype: of its numbers.
        local: folder of a disk of each machine's own, where copies of the shards are made and read.
    """

    shards: tuple[Path, ...]
    starts: tuple[int, ...]
    places: NDArray[np.int32]
    sums: NDArray[np.uint32]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    local: Path | None = None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows into a new array, and check each.

        Raises:
            LostFeaturesError: a row is not what was located; a damaged shard is set aside, so that
                its rows are missing.
            OSError: a shard cannot be read.
        """
        places, sums = self.places[positions], self.sums[positions]
        found = np.empty((len(places), *self.shape), self.dtype)
        content = found.reshape(-1).view(np.uint8).reshape(len(places), self._row_bytes)
        for shard in np.unique(places[:, 0]).tolist():
            here = np.flatnonzero(places[:, 0] == shard).tolist()
            starts = [
                self.starts[shard] + row * self._row_bytes for row in places[here, 1].tolist()
            ]
            buffers, checks = [content[i].data for i in here], sums[here].tolist()
            if not self._read(self.shards[shard], starts, buffers, checks):
                raise _lost(self.shards[shard])
        return found

    def _read(
        self, shard: Path, starts: list[int], buffers: list[memoryview], sums: list[int]
    ) -> bool:
        """Read rows of a shard or of its local copy; returns whether they are what they were."""
        if self.local and (copy := local_copy(shard, self.local)):
            with contextlib.suppress(OSError):
                if _filled(copy, starts, buffers, sums):
                    return True
            drop(copy)
        return _filled(shard, starts, buffers, sums)


def _filled(file: Path, starts: list[int], buffers: list[memoryview], sums: list[int]) -> bool:
    """Read what lies at some bytes of a file; returns whether it is all there, and is sound."""
    try:
        opened = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        read = [os.preadv(opened, [b], at) for b, at in zip(buffers, starts, strict=True)]
    finally:
        os.close(opened)
    return read == [*map(len, buffers)] and [*map(zlib.crc32, buffers)] == sums


def _lost(shard: Path) -> LostFeaturesError:
    """Set a shard aside if it is damaged: another run may have made it anew meanwhile."""
    with contextlib.suppress(OSError):
        try:
            read_shard(shard)
        except CorruptShardError:
            shard.rename(shard.with_suffix(".corrupt"))
    return LostFeaturesError(
        f"features.cache: {shard} is damaged or gone; --resume computes its rows again, and goes on"
    )
