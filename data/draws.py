"""Which images the fits of an experiment are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.dataset import Split
from data.splits import Indices, partition_rows
from partitions import Partition, Shots


class Listed(NamedTuple):
    """What a draw goes by: class numbers and, if the source names groups, theirs: (n,) each."""

    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws the rows of train and validation that a fit is given.

    All draws are from the images as they are listed. One that cannot be read is missing where it
    was drawn, and has no influence on which others are. Final seed 0 is the search's.

    Attributes:
        train, val: the splits.
        seed: the experiment's.
        matched: whether a partition is judged by its own share of the validation images.
    """

    train: Listed
    val: Listed
    seed: int
    matched: bool

    @classmethod
    def of(cls, train: Split, val: Split, seed: int, matched: bool) -> Draws:
        """Return the draws from two splits."""
        one, other = (Listed(split.labels, split.group_ids) for split in (train, val))
        return cls(one, other, seed, matched)

    def rows(self, partition: Partition, final_seed: int) -> Indices:
        """Draw training images; nested over partitions."""
        return partition_rows(*self.train, partition, self.seed, final_seed)

    def val_rows(self, partition: Partition, final_seed: int) -> Indices:
        """Draw the validation images a partition is judged by: all, or as many as it would have."""
        if not self.matched:
            return np.arange(len(self.val.labels))
        if isinstance(partition, Shots):  # the share of them that it has of the training images
            partition = 100 * len(self.rows(partition, final_seed)) / len(self.train.labels)
        return partition_rows(*self.val, partition, self.seed, final_seed, "validation")

    def judging_rows(self, partition: Partition, final_seed: int, most: int) -> Indices:
        """Draw the validation images that judge a search: about `most` of `val_rows`, by class."""
        rows = self.val_rows(partition, final_seed)
        if len(rows) <= most:
            return rows
        groups = None if self.val.groups is None else self.val.groups[rows]
        share, purpose = 100 * most / len(rows), "judges"
        labels = self.val.labels[rows]
        return rows[partition_rows(labels, groups, share, self.seed, final_seed, purpose)]

    def needed(self, seeds: Mapping[Partition, int]) -> dict[str, Indices]:
        """List the rows of train and val that are drawn at all.

        Args:
            seeds: how many final seeds each partition has.
        """
        # At 100% it is all of them, whatever else is drawn.
        draws = [(100, 0)] if seeds.get(100) else [*each_draw(seeds)]
        return {
            "train": _union(self.rows(*draw) for draw in draws),
            "val": _union(self.val_rows(*draw) for draw in draws),
        }


def each_draw(seeds: Mapping[Partition, int]) -> Iterator[tuple[Partition, int]]:
    """Yield every partition with each of its final seeds."""
    for partition, count in seeds.items():
        for final_seed in range(count):
            yield partition, final_seed


def _union(drawn: Iterable[Indices]) -> Indices:
    rows: Indices = np.empty(0, np.int64)
    for more in drawn:
        rows = np.union1d(rows, more)
    return rows
