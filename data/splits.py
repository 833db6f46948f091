"""Seeded, stratified draws: splits that a source lacks, and nested partitions of a split.

Both walk one order. Every class is shuffled, and every image gets its quantile in its class; sorted
by quantile, any prefix of the images holds about the same share of every class. If a source names
groups (bursts of one object, patients), whole groups are shuffled, placed and drawn, because images
of one group carry less information than the same number of images of different groups.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from partitions import Partition, Shots

Indices = NDArray[np.int64]


def stratified_split(
    labels: ArrayLike, groups: Sequence[str] | None, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Draw about `fraction` of the rows, stratified by class; returns rows kept and rows drawn.

    Rows of one group stay together; a group counts towards its most frequent class. Every class
    keeps at least one row, so a class of one row (or one group) is not drawn from. At least one
    row is drawn if that allows it.
    """
    ids = np.asarray(labels, dtype=np.int64)
    members = _members(len(ids), groups)
    classes = [Counter(ids[rows].tolist()) for rows in members]
    order = _quantile_order(
        strata=np.array([count.most_common(1)[0][0] for count in classes], dtype=np.int64),
        sizes=np.array([len(rows) for rows in members], dtype=np.int64),
        rng=np.random.default_rng(seed),
    )
    kept = Counter(ids.tolist())
    target = fraction * len(ids)
    drawn: list[int] = []

    def spare(group: int) -> bool:
        return all(kept[label] > rows for label, rows in classes[group].items())

    for group in order.tolist():
        if len(drawn) + len(members[group]) / 2 <= target and spare(group):
            kept.subtract(classes[group])
            drawn += members[group]
    if not drawn:
        drawn = min((members[group] for group in order if spare(group)), key=len, default=[])
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[drawn] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def partition_rows(
    labels: ArrayLike,
    groups: ArrayLike | None,
    partition: Partition,
    seed: int,
    final_seed: int = 0,
    purpose: str = "partition",
) -> Indices:
    """Draw the rows of a partition as every fit of an experiment with this `seed` does.

    The search has `final_seed` 0; each final seed has a draw of its own. `purpose` is "partition"
    for training images, and another word for each other draw.
    """
    return Walk.of(labels, derived_seed(seed, final_seed, purpose), groups).partition(partition)


def fold_ids(labels: ArrayLike, groups: ArrayLike | None, folds: int, seed: int) -> Indices:
    """Deal rows into folds, numbered from 0, class by class; rows of one group share a fold.

    Every fold gets as many rows of a class as another, or one more, if no groups are given.
    """
    walk = Walk.of(labels, seed, groups)
    by_class = walk.order[np.argsort(walk.units.strata[walk.order], kind="stable")]
    dealt = np.empty_like(by_class)
    dealt[by_class] = np.arange(len(by_class)) % folds
    return dealt[walk.units.homes]


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn as a whole: the groups of rows, or else the rows themselves.

    Attributes:
        ids: the class of each row, from 0.
        homes: the unit of each row.
        sizes, strata: the rows of each unit, and the class it counts towards: its most frequent.
    """

    ids: Indices
    homes: Indices
    sizes: Indices
    strata: Indices

    @classmethod
    def of(cls, labels: ArrayLike, groups: ArrayLike | None) -> Units:
        """Return the units of rows with these labels and groups."""
        ids: Indices = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)[1]
        homes = np.arange(len(ids)) if groups is None else numbered(groups)
        strata = ids if groups is None else _most_frequent(ids, homes)
        return cls(ids, homes, np.bincount(homes), strata)

    def rows(self, units: Indices) -> Indices:
        """List the rows of some units, in order."""
        drawn = np.zeros(len(self.sizes), dtype=bool)
        drawn[units] = True
        return np.flatnonzero(drawn[self.homes])


@dataclass(frozen=True, eq=False)
class Walk:
    """The seeded order in which units are drawn.

    Attributes:
        order: the units as they are drawn.
        needed: places in it of the first units that hold every class; each draw has these.
    """

    units: Units
    order: Indices
    needed: Indices

    @classmethod
    def of(cls, labels: ArrayLike, seed: int, groups: ArrayLike | None) -> Walk:
        """Return the order in which rows with these labels and groups are drawn."""
        return cls.through(Units.of(labels, groups), seed)

    @classmethod
    def through(cls, units: Units, seed: int) -> Walk:
        """Return the order in which units are drawn."""
        order = _quantile_order(units.strata, units.sizes, np.random.default_rng(seed))
        return cls(units, order, _covering(units.ids, np.argsort(order)[units.homes]))

    def partition(self, partition: Partition) -> Indices:
        """Draw a percentage of the rows, or a number of rows of each class."""
        if isinstance(partition, Shots):
            return self.shots(partition.number)
        return self.share(partition)

    def share(self, percent: float) -> Indices:
        """Draw `percent` % of the rows: stratified, and nested in every larger draw.

        It holds `max(classes, round(percent / 100 * n))` rows, at least one of every class. Shares
        follow Webster's apportionment: every class has within half a row of one common percentage,
        except for classes that are held at one row.

        Rows of one group come together, and a group counts towards its most frequent class. The
        first groups of the order are taken until the rows come nearest to
        `round(percent / 100 * n)`, but at least the groups that hold every class. Without those,
        the size is off by half a group at most.
        """
        order = np.concatenate([self.order[self.needed], np.delete(self.order, self.needed)])
        wanted = round(percent / 100 * len(self.units.homes))
        misses = np.abs(np.cumsum(self.units.sizes[order]) - wanted)
        return self.units.rows(order[: max(len(self.needed), int(misses.argmin()) + 1)])

    def shots(self, shots: int) -> Indices:
        """Draw the first `shots` rows of every class, or all it has; nested in every larger draw.

        Where rows come in groups, it is the first `shots` groups of every class, and the groups
        that hold a class which is the most frequent one of no group.
        """
        of_class = self.units.strata[self.order]
        by_class = np.argsort(of_class, kind="stable")
        starts = np.searchsorted(of_class[by_class], of_class[by_class])
        first = by_class[np.arange(len(by_class)) - starts < shots]
        return self.units.rows(self.order[np.union1d(first, self.needed)])

    def in_place_of(self, broken: Indices) -> Indices:
        """Draw rows for the classes whose `needed` rows are all `broken`, which each draw adds.

        Each class has the first unit with a row that is not broken, if any; it stays in each larger
        draw.
        """
        units = self.units
        sound = np.ones(len(units.ids), dtype=bool)
        sound[broken] = False
        places = np.argsort(self.order)[units.homes]
        firsts = np.full(int(units.ids.max()) + 1, len(self.order))
        np.minimum.at(firsts, units.ids[sound], places[sound])
        firsts[units.ids[sound & np.isin(places, self.needed)]] = len(self.order)
        return units.rows(self.order[firsts[firsts < len(self.order)]])


def derived_seed(seed: int, final_seed: int, purpose: str) -> int:
    """Derive one of several independent seeds from the experiment's."""
    entropy = [seed, final_seed, zlib.crc32(purpose.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def numbered(groups: ArrayLike) -> Indices:
    """Number the groups of rows from 0, in the order in which they appear."""
    _, firsts, ids = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(firsts))[ids], dtype=np.int64)


def _most_frequent(ids: Indices, homes: Indices) -> Indices:
    """The most frequent class of every group, the lowest of equals."""
    classes = int(ids.max()) + 1
    pairs, rows = np.unique(homes * classes + ids, return_counts=True)
    group, label = np.divmod(pairs, classes)
    best = np.lexsort((label, -rows, group))
    return np.asarray(label[best][np.unique(group, return_index=True)[1]], dtype=np.int64)


def _covering(ids: Indices, places: Indices) -> Indices:
    """Places of the first group with each class, less those whose classes the others hold too.

    `ids` are the rows' classes, from 0, and `places` the place of each row's group in the order.
    """
    firsts = np.full(int(ids.max()) + 1, len(places))
    np.minimum.at(firsts, ids, places)
    classes: dict[int, set[int]] = {place: set() for place in np.unique(firsts).tolist()}
    rows = np.isin(places, firsts)
    for place, label in zip(places[rows].tolist(), ids[rows].tolist(), strict=True):
        classes[place].add(label)
    holders = Counter(label for held in classes.values() for label in held)
    for place, held in list(classes.items()):
        if all(holders[label] > 1 for label in held):
            holders.subtract(held)
            del classes[place]
    return np.array(list(classes), dtype=np.int64)


def _quantile_order(strata: Indices, sizes: Indices, rng: np.random.Generator) -> Indices:
    """Shuffle the units of each stratum and sort all by the quantile of their middle in it.

    Equal quantiles come in a random order of the strata.
    """
    quantiles = np.empty(len(strata))
    ranks = np.empty(len(strata))
    by_stratum = np.argsort(strata, kind="stable")
    chunks = np.split(by_stratum, np.flatnonzero(np.diff(strata[by_stratum])) + 1)
    for chunk, rank in zip(chunks, rng.permutation(len(chunks)), strict=True):
        units = rng.permutation(chunk)
        ends = np.cumsum(sizes[units])
        quantiles[units] = (ends - sizes[units] / 2) / ends[-1]
        ranks[units] = rank
    return np.lexsort((ranks, quantiles))


def _members(n: int, groups: Sequence[str] | None) -> list[list[int]]:
    if groups is None:
        return [[row] for row in range(n)]
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return list(members.values())
