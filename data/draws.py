"""Which images the fits of an experiment are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.dataset import Split
from data.splits import Indices, Units, Walk, derived_seed, partition_rows
from partitions import Partition, Shots


class Listed(NamedTuple):
    """What a draw goes by: class numbers and, if the source names groups, theirs: (n,) each."""

    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws the rows of train and validation that a fit is given.

    All draws are from the images as they are listed. One that cannot be read is missing where it
    was drawn, and has no influence on which others are; but a class that would be without a
    training image gets the next one that can be read. Final seed 0 is the search's.

    Attributes:
        train, val: the splits.
        seed: the experiment's.
        matched: whether a partition is judged by its own share of the validation images.
        broken: rows of train that are known to be unreadable.
    """

    train: Listed
    val: Listed
    seed: int
    matched: bool
    broken: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of(cls, train: Split, val: Split, seed: int, matched: bool) -> Draws:
        """Return the draws from two splits."""
        one, other = (Listed(split.labels, split.group_ids) for split in (train, val))
        return cls(one, other, seed, matched)

    def rows(self, partition: Partition, final_seed: int) -> Indices:
        """Draw training images; nested over partitions."""
        drawn = self._listed(partition, final_seed)
        if not len(self.broken):
            return drawn
        return np.union1d(
            drawn, _walk(self, "train", "partition", final_seed).in_place_of(self.broken)
        )

    def _listed(self, partition: Partition, final_seed: int) -> Indices:
        return _walk(self, "train", "partition", final_seed).partition(partition)

    def val_rows(self, partition: Partition, final_seed: int) -> Indices:
        """Draw the validation images a partition is judged by: all, or as many as it would have."""
        if not self.matched:
            return np.arange(len(self.val.labels))
        if isinstance(partition, Shots):  # the share of them that it has of the training images
            partition = 100 * len(self._listed(partition, final_seed)) / len(self.train.labels)
        return _walk(self, "val", "validation", final_seed).partition(partition)

    def judging_rows(self, partition: Partition, final_seed: int, most: int) -> Indices:
        """Draw the validation images that judge a search: about `most` of `val_rows`, by class."""
        rows = self.val_rows(partition, final_seed)
        if len(rows) <= most:
            return rows
        share = 100 * most / len(rows)
        if len(rows) == len(self.val.labels):
            return _walk(self, "val", "judges", final_seed).partition(share)
        groups = None if self.val.groups is None else self.val.groups[rows]
        labels = self.val.labels[rows]
        return rows[partition_rows(labels, groups, share, self.seed, final_seed, "judges")]

    def needed(self, seeds: Mapping[Partition, int]) -> dict[str, Indices]:
        """List the rows of train and val that are drawn at all.

        Args:
            seeds: how many final seeds each partition has.
        """
        # At 100% it is all of them, whatever else is drawn.
        draws = [(100, 0)] if seeds.get(100) else [*each_draw(seeds)]
        return {
            "train": _union(len(self.train.labels), (self.rows(*draw) for draw in draws)),
            "val": _union(len(self.val.labels), (self.val_rows(*draw) for draw in draws)),
        }


def each_draw(seeds: Mapping[Partition, int]) -> Iterator[tuple[Partition, int]]:
    """Yield every partition with each of its final seeds."""
    for partition, count in seeds.items():
        for final_seed in range(count):
            yield partition, final_seed


@lru_cache(maxsize=4)
def _units(draws: Draws, split: Literal["train", "val"]) -> Units:
    listed: Listed = getattr(draws, split)
    return Units.of(*listed)


@lru_cache(maxsize=16)
def _walk(draws: Draws, split: Literal["train", "val"], purpose: str, final_seed: int) -> Walk:
    """Return the order of draws, which all partitions share: sorting it is what a draw takes."""
    return Walk.through(_units(draws, split), derived_seed(draws.seed, final_seed, purpose))


def _union(count: int, drawn: Iterable[Indices]) -> Indices:
    """List which of `count` rows are drawn at all."""
    found = np.zeros(count, dtype=bool)
    for rows in drawn:
        found[rows] = True
    return np.flatnonzero(found)
