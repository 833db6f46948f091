"""Rows of many shards as one array that stays on disk: for features larger than memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ShardRows:
    """A read-only array (n, …) whose rows lie in shards.

    The shards are the array, so that it grows with them. Rows are read when they are asked for:
    a memory map would have Linux read far ahead of each, and keep a file open for each shard.

    Attributes:
        shards: files.
        starts: byte of each file at which its rows begin.
        places: (n, 2) number of the shard, and row in it, of each position.
        shape: of a row.
        dtype: of its numbers.
    """

    shards: tuple[Path, ...]
    starts: tuple[int, ...]
    places: NDArray[np.int32]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

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
        """Read rows into a new array; raises OSError if a shard has gone."""
        places = self.places[positions]
        found = np.empty((len(places), *self.shape), self.dtype)
        content = found.reshape(-1).view(np.uint8).reshape(len(places), self._row_bytes)
        for shard in np.unique(places[:, 0]).tolist():
            here = np.flatnonzero(places[:, 0] == shard)
            self._read(shard, places[here, 1].tolist(), [content[i].data for i in here])
        return found

    def _read(self, shard: int, rows: list[int], buffers: list[memoryview]) -> None:
        file = os.open(self.shards[shard], os.O_RDONLY)
        try:
            for row, buffer in zip(rows, buffers, strict=True):
                start = self.starts[shard] + row * self._row_bytes
                if os.preadv(file, [buffer], start) < self._row_bytes:
                    raise OSError(f"{self.shards[shard]}: shorter than it was")
        finally:
            os.close(file)
