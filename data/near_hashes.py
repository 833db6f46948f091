"""The nearest of many hashes, to within a few bits, without comparing all pairs.

Two hashes that differ in r bits agree in one of any r + 1 parts of their bits. So they are sorted
by each part in turn, and only those of equal parts are compared (M. Norouzi, A. Punjani and
D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index Hashing", 2014). Where many share
a part, as those of a fixed camera do, they are divided again by their other bits, while sorting
costs less than comparing. The parts before the first equal one differ, so that fewer bits of the
others do.

Most of a fixed camera's hashes have another within a bit or two: so distances are searched in turn,
and an image is done with the first at which it has another. Equal hashes of a group are one.

Time is linear in images for hashes far apart, and for so few free bits that images share hashes.
Between these, where all lie close and yet seldom within 4 bits, it was 2.4 times as long for each
image at 200,000 as at 10,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SORTING = 4  # a row by one part of its bits, in comparisons of two
PAIRS = 1 << 18  # that are compared at once
FEW = 1 << 12  # pairs that are compared rather than looked at any further
SAMPLE = 10_000  # rows from which it is seen how much each bit varies
WORD = 8  # bytes

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


def nearest_before(hashes: NDArray[np.uint8], groups: Rows, most: int) -> Rows:
    """Find, for each row, the nearest of the rows before it that are of another group.

    Args:
        hashes: (n, bytes).
        groups: (n,) numbers.
        most: bits by which the nearest may differ.

    Returns:
        (n,) rows; the first one where several are equally near, and -1 where none is near.
    """
    found = np.full(len(hashes), -1)
    if not found.size:
        return found
    table, entry = _Table.of(hashes, groups)
    rows = np.arange(found.size)
    best = np.full(table.first.size, found.size)  # first row of another group in the radius
    for radius in range(most + 1):
        sought = (best > table.first) & table.some_before
        for later, earlier in _pairs(table, sought, radius):
            hopeful = table.first[earlier] < np.minimum(best, table.last)[later]
            later, earlier = later[hopeful], earlier[hopeful]
            near = table.distance(later, earlier) <= radius
            np.minimum.at(best, later[near], table.first[earlier[near]])
        done = (found < 0) & (best[entry] < rows)
        found[done] = best[entry[done]]
    return found


@dataclass(frozen=True)
class _Table:
    """The hashes of each group: equal ones of one group are one entry. They are in order of rank.

    Attributes:
        words: (words, entries) of the hashes.
        rank: of each entry's group, by the group's first row.
        first, last: rows.
        named: whether its first row may be another's nearest: of equal hashes the first, and the
            first of another group.
        some_before: whether a row of another group lies before the last of it.
        late: whether the last lies behind a row of a group of a higher rank.
        bits: those that vary, the most balanced ones first.
    """

    words: Words
    rank: Rows
    first: Rows
    last: Rows
    named: Flags
    some_before: Flags
    late: Flags
    bits: Rows

    @classmethod
    def of(cls, hashes: NDArray[np.uint8], groups: Rows) -> tuple[_Table, Rows]:
        """Make the table of n hashes; returns it with the entry of each (n,)."""
        count, width = hashes.shape
        padded = np.zeros((count, -(-width // WORD) * WORD), np.uint8)
        padded[:, :width] = hashes
        words = np.ascontiguousarray(padded.view(np.uint64).T)
        _, began, groups = np.unique(groups, return_index=True, return_inverse=True)
        ranks = np.argsort(np.argsort(began))[groups]
        began = np.append(np.sort(began), count)

        order = np.lexsort([ranks, *words])
        new_hash = np.append(True, (words[:, order[1:]] != words[:, order[:-1]]).any(axis=0))
        begins = np.flatnonzero(new_hash | np.append(True, np.diff(ranks[order]) != 0))
        first, last = order[begins], order[np.append(begins[1:], count) - 1]
        by_rank = np.argsort(ranks[first], kind="stable")
        place = np.argsort(by_rank)
        entry = np.empty(count, np.int64)
        entry[order] = np.repeat(place, np.diff(np.append(begins, count)))

        hash_of = np.cumsum(new_hash)[begins]
        by_first = np.lexsort([first, hash_of])
        number = hash_of[by_first]
        named = np.empty(first.size, bool)
        named[by_first] = np.append([True] * 2, number[2:] != number[:-2])[: first.size]

        first, last, named = first[by_rank], last[by_rank], named[by_rank]
        rank, words = ranks[first], np.ascontiguousarray(words[:, first])
        late = began[rank + 1] < last
        ones = np.unpackbits(hashes[first[:: -(-first.size // SAMPLE)]], axis=1).mean(axis=0)
        bits = np.argsort(np.abs(ones - 0.5), kind="stable")
        varies = np.bitwise_or.reduce(words, axis=1) ^ np.bitwise_and.reduce(words, axis=1)
        bits = bits[np.unpackbits(varies.view(np.uint8))[bits] > 0]
        return cls(words, rank, first, last, named, late | (rank > 0), late, bits), entry

    def distance(self, one: Rows, other: Rows) -> NDArray[np.uint16]:
        """Count the bits by which entries differ from others."""
        bits = np.zeros(one.size, np.uint16)
        for words in self.words:
            bits += np.bitwise_count(words[one] ^ words[other])
        return bits


@dataclass(frozen=True)
class _Known:
    """What pairs of the radius that are not found yet have in common.

    They differ in at most `most` of the bits in `free`, and in one bit or more of each part in
    `held`. All other bits are equal.
    """

    free: Rows
    held: tuple[Rows, ...]
    most: int

    def divided(self) -> list[tuple[Rows, _Known]]:
        """List bits to be equal, with what is known then; any pair is in one of these."""
        if self.free.size > self.most:
            parts = [self.free[part :: self.most + 1] for part in range(self.most + 1)]
            places = np.arange(self.free.size) % (self.most + 1)
            return [
                (part, _Known(self.free[places > i], (*self.held, *parts[:i]), self.most - i))
                for i, part in enumerate(parts)
            ]
        largest = max(range(len(self.held)), key=lambda i: self.held[i].size, default=-1)
        if self.most or largest < 0 or self.held[largest].size == 1:
            return []
        part, others = self.held[largest], (*self.held[:largest], *self.held[largest + 1 :])
        halves = part[::2], part[1::2]  # one bit differs, in one of them
        return [(a, _Known(self.free[:0], (*others, b), 0)) for a, b in (halves, halves[::-1])]


def _pairs(table: _Table, sought: Flags, radius: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield `sought` entries, each with a named one of another group; all near pairs are there."""
    none = table.bits[:0]
    left = [(np.flatnonzero(sought | table.named), none, _Known(table.bits, (), radius))]
    while left:
        rows, equal, known = left.pop()
        rows, new = _shared(table, rows, equal)
        if not rows.size:
            continue
        later, named, begins, ends = _ranges(table, rows, new, sought)
        run = np.cumsum(new) - 1
        pairs = np.bincount(run[later], ends - begins, minlength=run[-1] + 1)
        divided = known.divided() if pairs.sum() > FEW else []
        many = (pairs > SORTING * len(divided) * np.bincount(run)) & bool(divided)
        ends = np.where(many[run[later]], begins, ends)
        for number, position in _expanded(begins, ends):
            yield rows[later[number]], named[position]
        if many.any():
            rows = rows[many[run]]
            left += [(rows, np.concatenate([equal, part]), known) for part, known in divided]


def _shared(table: _Table, rows: Rows, equal: Rows) -> tuple[Rows, Flags]:
    """Sort rows by their bits in `equal`; those of the same bits stay in order.

    Returns:
        The rows whose bits others have too, and where each bits' begin.
    """
    mask = np.zeros(8 * WORD * len(table.words), np.uint8)
    mask[equal] = 1
    key = np.zeros(rows.size, np.uint64)
    multipliers = _multipliers(len(table.words))
    parts = np.packbits(mask).view(np.uint64)
    for words, part, odd in zip(table.words, parts, multipliers, strict=True):
        if part:
            key += (words[rows] & part) * odd
    # A key has its place in its lowest bits: numbers are sorted faster than their places.
    low = np.uint64((1 << rows.size.bit_length()) - 1)
    key = np.sort(key & ~low | np.arange(rows.size, dtype=np.uint64))
    order = (key & low).astype(np.int64)
    key &= ~low
    new = np.append(True, key[1:] != key[:-1])
    shared = ~(new & np.append(new[1:], True))  # most bits are of one row
    return rows[order[shared]], new[shared]


def _ranges(table: _Table, rows: Rows, new: Flags, sought: Flags) -> tuple[Rows, Rows, Rows, Rows]:
    """Find which named rows each sought one is to be compared with: those of other groups.

    `new` is where a run of rows that share bits begins.

    Returns:
        Places of sought rows, some twice; the named rows; begins and ends of ranges of these.
    """
    named = table.named[rows]
    before = np.append(0, np.cumsum(named))  # how many are named before a place
    rank = table.rank[rows]
    new_rank = new | np.append(True, rank[1:] != rank[:-1])
    (key_begin, key_end), (own_begin, own_end) = (_runs(flags) for flags in (new, new_rank))
    low = np.flatnonzero(sought[rows])
    high = low[table.late[rows[low]]]
    begins = before[np.concatenate([key_begin[low], own_end[high]])]
    ends = before[np.concatenate([own_begin[low], key_end[high]])]
    return np.concatenate([low, high]), rows[named], begins, ends


def _runs(new: Flags) -> tuple[Rows, Rows]:
    """Return for each position the begin and the end of its run; `new` where one begins."""
    starts = np.append(np.flatnonzero(new), new.size)
    run = np.cumsum(new) - 1
    return starts[run], starts[run + 1]


def _expanded(begins: Rows, ends: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield (number of the range, value in it) for all values of many ranges, some at a time."""
    numbers = np.flatnonzero(ends > begins)
    lengths = (ends - begins)[numbers]
    done = np.cumsum(lengths)
    cuts = np.searchsorted(done, np.arange(PAIRS, int(lengths.sum()) + PAIRS, PAIRS))
    for some in np.split(np.arange(numbers.size), np.unique(cuts)):
        each = lengths[some]
        inner = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        yield np.repeat(numbers[some], each), np.repeat(begins[numbers[some]], each) + inner


def _multipliers(words: int) -> Words:
    """Return odd numbers, by which words add up to a key that hardly any others have."""
    return np.random.default_rng(0).integers(0, 2**64, words, np.uint64) | np.uint64(1)
