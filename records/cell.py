"""The unit of search: one method on one partition."""

from __future__ import annotations

from typing import NamedTuple

from partitions import Partition, named, parsed

BEST = "best"
"""What stands for a partition's best method; no method has this name."""


class Cell(NamedTuple):
    """A (partition, method): it has its own rungs, its own study and its own winner."""

    partition: Partition
    method: str

    def __str__(self) -> str:
        return f"{named(self.partition)}/{self.method}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read a cell's name, `10/llrd` or `4shot/llrd`; raises ValueError for other text."""
        partition, _, method = text.partition("/")
        return cls(parsed(partition), method)

    def file_stem(self, rest: str | int) -> str:
        """Name a file of the cell, without its suffix: `10-llrd-seed0`, `10-llrd-3`."""
        return f"{named(self.partition)}-{self.method}-{rest}"
