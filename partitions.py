"""A partition: how many of the training images a row of the table has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Shots(NamedTuple):
    """A number of images of each class. Where the source names groups, it counts groups."""

    number: int


Partition = float | Shots
"""A percentage of the training images, or a number of each class."""


def named(partition: Partition) -> str:
    """Name a partition for files and tables: `10` is a percentage, and `4shot` is 4 a class."""
    return f"{partition.number}shot" if isinstance(partition, Shots) else f"{partition:g}"


def parsed(name: str | float) -> Partition:
    """Read what `named` wrote; raises ValueError for other text."""
    shots = re.fullmatch(r"(\d+)shot", str(name))
    return Shots(int(shots[1])) if shots else float(name)


def any_shots(partitions: Iterable[Partition]) -> bool:
    """Whether there are shots among partitions."""
    return any(isinstance(partition, Shots) for partition in partitions)


def titled(partition: Partition) -> str:
    """Write a partition as a person reads it: `10%`, `4 shots`."""
    if not isinstance(partition, Shots):
        return f"{partition:g}%"
    return f"{partition.number} shot{'' if partition.number == 1 else 's'}"
