"""The nearest of many hashes, to within a few bits, without comparing all pairs.

Two hashes that differ in r bits agree in k of any r + k parts of their bits. So the rows are sorted
by each choice of k parts, once for each choice, and only those with equal keys are compared
(M. Norouzi, A. Punjani and D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index
Hashing", 2014, with k = 1). Where many hashes lie close together, as those of a fixed camera, most
have another within a bit or two, and short distances need few choices of long keys: so distances
are searched in turn, and a row is done with the first at which it has another. A larger k has
longer keys, so fewer rows are compared, but more choices: a sample says which costs least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

EQUAL = (3, 4, 5, 6, 7)
"""Parts that may be asked to be equal."""
SORTING = 4  # a row, in comparisons of two
PAIRS = 1 << 20  # that are compared at once
SAMPLE = 10_000  # rows from which it is seen how much each bit varies, and how many keys are equal
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
    count, width = hashes.shape
    if not count:
        return np.empty(0, np.int64)
    padded = np.zeros((count, -(-width // WORD) * WORD), np.uint8)
    padded[:, :width] = hashes
    words = padded.view(np.uint64)
    _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[groups]  # in the order of the groups' first rows
    began = np.append(np.sort(first), count)
    rows = np.argsort(rank, kind="stable")
    table = _Table(words, rank, began[rank + 1] < np.arange(count), _representatives(words, rank))
    ones = np.unpackbits(hashes[:: -(-count // SAMPLE)], axis=1).mean(axis=0)
    by_variance = np.argsort(np.abs(ones - 0.5), kind="stable")
    best = np.full(count, count)
    for radius in range(most + 1):
        sought = best == count
        kept = rows[sought[rows] | table.named[rows]]
        equal = table.cheapest(kept, sought, by_variance, radius)
        for mask in _masks(by_variance, radius, equal):
            for later, earlier in table.pairs(kept, sought, mask):
                differing = np.bitwise_count(words[later] ^ words[earlier]).sum(axis=1)
                near = differing <= radius
                np.minimum.at(best, later[near], earlier[near])
    return np.where(best < count, best, -1)


@dataclass(frozen=True)
class _Table:
    """All rows.

    Attributes:
        words: (n, words) the hashes.
        rank: of each row's group, by its first row.
        late: whether a row lies behind the first of some group of a higher rank.
        named: whether a row may be another's nearest.
    """

    words: Words
    rank: Rows
    late: Flags
    named: Flags

    def pairs(self, rows: Rows, sought: Flags, mask: Words) -> Iterator[tuple[Rows, Rows]]:
        """Yield rows that are `sought`, each with a named row before it of another group.

        `rows` are those that take part, in the order of their ranks; both of a pair have the same
        bits under the mask.
        """
        keys = _keys(self.words[rows], mask)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        new = np.append(True, ordered[1:] != ordered[:-1])
        shared = ~(new & np.append(new[1:], True))  # most keys are of one row
        rows, new = rows[order[shared]], new[shared]
        if not rows.size:
            return
        named = rows[self.named[rows]]
        before = np.append(0, np.cumsum(self.named[rows]))  # how many are named before a position
        rank = self.rank[rows]
        new_rank = new | np.append(True, rank[1:] != rank[:-1])
        (key_begin, key_end), (own_begin, own_end) = (_runs(flags) for flags in (new, new_rank))
        low = sought[rows]
        high = low & self.late[rows]
        later = np.concatenate([rows[low], rows[high]])
        begins = before[np.concatenate([key_begin[low], own_end[high]])]
        ends = before[np.concatenate([own_begin[low], key_end[high]])]
        for number, position in _expanded(begins, ends):
            pairs = later[number], named[position]
            turned = pairs[0] > pairs[1]
            yield pairs[0][turned], pairs[1][turned]

    def cheapest(self, rows: Rows, sought: Flags, bits: Rows, radius: int) -> int:
        """Choose how many parts are to be equal, by the pairs that a sample of `rows` has."""
        sample = rows[:: max(1, -(-rows.size // SAMPLE))]
        more = (rows.size / max(1, sample.size)) ** 2

        def cost(equal: int) -> float:
            keys = _keys(self.words[sample], next(_masks(bits, radius, equal)))
            _, key = np.unique(keys, return_inverse=True)
            later, earlier = (np.bincount(key, flags[sample]) for flags in (sought, self.named))
            pairs = more * float((later * earlier).sum() - (sought & self.named)[sample].sum()) / 2
            return comb(radius + equal, equal) * (SORTING * rows.size + pairs)

        return min(EQUAL, key=cost)


def _representatives(words: Words, rank: Rows) -> Flags:
    """Tell which rows can be nearest: of equal hashes the first, and the first of another group."""
    order = np.lexsort(words.T)
    new = np.append(True, (words[order[1:]] != words[order[:-1]]).any(axis=1))
    begins, _ = _runs(new)
    other = np.flatnonzero(rank[order] != rank[order[begins]])
    _, first = np.unique(begins[other], return_index=True)
    named = np.zeros(len(words), bool)
    named[order[new]] = True
    named[order[other[first]]] = True
    return named


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


def _keys(words: Words, mask: Words) -> Words:
    """Return a number (n,) of each hash's bits under a mask: of equal bits the same."""
    return np.asarray(((words & mask) * _multipliers(mask.size)).sum(axis=1))


def _masks(bits: Rows, radius: int, equal: int) -> Iterator[Words]:
    """Yield masks: two hashes that differ in `radius` bits or fewer agree under one of them.

    Each is of `equal` parts of the bits. They are dealt out in turn, so that each part has as much
    of what varies as the others.
    """
    count = radius + equal
    for chosen in combinations([bits[part::count] for part in range(count)], equal):
        covered = np.zeros(-(-bits.size // (8 * WORD)) * 8 * WORD, np.uint8)
        covered[np.concatenate(chosen)] = 1
        yield np.packbits(covered).view(np.uint64)


def _multipliers(words: int) -> Words:
    """Return odd numbers, by which words add up to a key that hardly any others have."""
    return np.random.default_rng(0).integers(0, 2**64, words, np.uint64) | np.uint64(1)
