"""Seeded, stratified draws: splits that a source lacks, and nested partitions of a split.

Both walk one order. Shuffle each class and give every image the quantile at which it stands in
its class; sorted by quantile, any prefix of the images holds about the same share of every class.
Where a source names groups (bursts of one object, patients), it is groups that are shuffled, placed
and drawn: images of one group tell less than as many of different ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.int64]


def stratified_split(
    labels: ArrayLike, groups: Sequence[str] | None, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Draws about `fraction` of the rows, stratified by class.

    Rows of one group stay together; a group counts towards its most frequent class. Every class
    keeps at least one row, so a class of one row (or one group) is not drawn from. At least one
    row is drawn if that allows it.

    Args:
        labels: (n,) class ids.
        groups: (n,) group names, or None if every row stands alone.
        fraction: share of rows to draw, in (0, 1).
        seed: same seed, same draw.

    Returns:
        Indices of the rows kept and of the rows drawn, each ascending.
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


def partition_indices(
    labels: ArrayLike, percent: float, seed: int, groups: ArrayLike | None = None
) -> Indices:
    """The partition of `percent` % of the rows: stratified, and nested in every larger one.

    It holds `max(classes, round(percent / 100 * n))` rows, at least one of every class. Shares
    follow Webster's apportionment: but for classes held at their one row, every class has within
    half a row of one common percentage.

    Rows of one group come together, and a group counts towards its most frequent class. The first
    groups of the order are taken, as many as come nearest to `round(percent / 100 * n)` rows and
    no fewer than hold every class: but for these, the size is missed by half a group at most.

    Args:
        labels: (n,) class ids.
        percent: in (0, 100]; 100 is everything.
        seed: same seed, same partitions, nested in each other.
        groups: (n,) names or numbers of the rows' groups, or None if every row stands alone.

    Returns:
        Row indices, ascending.

    Raises:
        ValueError: `percent` is outside (0, 100].
    """
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and up to 100, not {percent}")
    ids: Indices = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)[1]
    homes = np.arange(len(ids)) if groups is None else numbered(groups)
    sizes = np.bincount(homes)
    strata = ids if groups is None else _most_frequent(ids, homes)
    order = _quantile_order(strata, sizes, np.random.default_rng(seed))
    needed = _covering(ids, np.argsort(order)[homes])
    order = np.concatenate([order[needed], np.delete(order, needed)])
    misses = np.abs(np.cumsum(sizes[order]) - round(percent / 100 * len(ids)))
    drawn = np.zeros(len(order), dtype=bool)
    drawn[order[: max(len(needed), int(misses.argmin()) + 1)]] = True
    return np.flatnonzero(drawn[homes])


def numbered(groups: ArrayLike) -> Indices:
    """Each row's group as a number, from 0 in the order in which groups appear."""
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
    """Places of groups that together hold every class: the first with it of each.

    Those are left out that the others make needless, as groups may hold several classes.

    Args:
        ids: (n,) classes, from 0.
        places: (n,) where in the order each row's group stands.
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
    """Order of units by their middle's quantile among the rows of their stratum, shuffled first.

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
