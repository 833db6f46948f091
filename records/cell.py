"""The unit of search: one method on one partition."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """A (partition, method): it has its own rungs, its own study and its own winner."""

    partition: float
    method: str

    def __str__(self) -> str:
        return f"{self.partition:g}/{self.method}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        partition, _, method = text.partition("/")
        return cls(float(partition), method)
