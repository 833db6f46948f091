"""Images that are there twice: in two splits, of two classes, or as one file in two places.

A photo that is in train and in test, perhaps saved anew or at another size, makes a test score too
high. One that has two classes makes it too low, wherever it lies. Perceptual hashes survive a new
encoding and another size. They ignore colour, and recognise neither a crop nor a second shot of the
same scene.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.dataset import Split
from data.near_hashes import nearest_before

HASH_SIDE = 12
"""144 bits. The usual 64 are too few for small images: they take 3 of 450 scanned test digits for
duplicates of other digits, whose 144 bits differ in 10 or more."""
HASH_BYTES = HASH_SIDE * HASH_SIDE // 8
MAX_DISTANCE = 4
"""Bits by which near duplicates may differ. JPEG down to quality 50 and other sizes change up to
4 bits of a photo; equal hashes alone miss 9 to 30 % of such copies."""
MIN_CONTRAST = 8
"""Grey levels (of 255) that an image must span, in small, to have a hash."""

Hash = NDArray[np.uint8]
Kind = Literal["exact", "near"]
Match = tuple[Kind, int, int]
"""How two images are the same, and the rows of both."""


@dataclass(frozen=True, eq=False)
class SplitContent:
    """A split's readable images, with digests, and their perceptual hashes (n, HASH_BYTES).

    A hash of zeros means an image without one.
    """

    split: Split
    hashes: Hash

    @property
    def digest(self) -> str:
        """SHA-256 that changes with the content of any image, and with their order."""
        return hashlib.sha256("\n".join(self.split.digests or ()).encode()).hexdigest()


@dataclass(frozen=True)
class Duplicate:
    """An image that is there twice: `exact` by content, `near` by looks."""

    kind: Kind
    split_a: str
    key_a: str
    split_b: str
    key_b: str
    class_a: str
    class_b: str


def perceptual_hash(image: Image.Image) -> Hash:
    """Compute the image's pHash: signs of its 12 x 12 lowest frequencies, about their median.

    The ImageHash package computes it, after N. Krawetz, "Looks Like It", hackerfactor.com, 2011.
    The bits are packed to (HASH_BYTES,) uint8; they are zeros for an image without contrast,
    which has nothing but noise to hash.
    """
    side = 4 * HASH_SIDE  # what phash resizes to
    small = image.convert("L").resize((side, side), Image.Resampling.LANCZOS)
    values = np.asarray(small)
    if np.ptp(values) < MIN_CONTRAST:
        return np.zeros(HASH_BYTES, np.uint8)
    return np.packbits(imagehash.phash(small, HASH_SIDE, side // HASH_SIDE).hash)


def pairs_of_splits(names: Sequence[str]) -> list[tuple[str, str]]:
    """List every pair of splits, then every split with itself."""
    return [*combinations(names, 2), *((name, name) for name in names)]


def find_duplicates(
    splits: Mapping[str, SplitContent],
    classes: Sequence[str],
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[Duplicate]:
    """Find images that occur twice, by content (exact) or perceptual hash (near).

    Every image of a split is compared with every earlier split, and listed at most once for each:
    with the first image of the same content, else with the image of the nearest hash (the first
    of equals), if no more than MAX_DISTANCE bits differ. In its own split it is compared with the
    images before it that have another class, and with the same content of its own.

    `pairs` are those of the splits to compare; by default all. Time grows with the number of
    images, not of pairs (data/near_hashes.py).
    """

    def listed(a: str, b: str, matches: Iterable[Match]) -> Iterator[Duplicate]:
        one, other = splits[a].split, splits[b].split
        for kind, x, y in matches:
            names = classes[one.labels[x]], classes[other.labels[y]]
            yield Duplicate(kind, a, one.keys[x], b, other.keys[y], *names)

    found: list[Duplicate] = []
    for a, b in pairs_of_splits([*splits]) if pairs is None else pairs:
        matches = _repeats(splits[a]) if a == b else _matches(splits[a], splits[b])
        found += listed(a, b, matches)
    return found


def _matches(a: SplitContent, b: SplitContent) -> Iterator[Match]:
    """Yield the images of split `b` that are in split `a`."""
    first = _first_of_content(a)
    count = len(a.split)
    sides = np.repeat([0, 1], [count, len(b.split)])
    near = _nearest(np.concatenate([a.hashes, b.hashes]), sides)[count:]
    for row, digest in enumerate(b.split.digests or ()):
        if digest in first:
            yield "exact", first[digest], row
        elif near[row] >= 0:
            yield "near", int(near[row]), row


def _repeats(content: SplitContent) -> Iterator[Match]:
    """Yield a split's images that are there before, with another class or the same content."""
    labels = content.split.labels
    near = _nearest(content.hashes, labels)
    seen: dict[str, dict[int, int]] = {}
    for row, (digest, label) in enumerate(
        zip(content.split.digests or (), labels.tolist(), strict=True)
    ):
        same = seen.setdefault(digest, {})
        if others := [first for other, first in same.items() if other != label]:
            yield "exact", min(others), row
        elif near[row] >= 0:
            yield "near", int(near[row]), row
        elif same:
            yield "exact", same[label], row
        same.setdefault(label, row)


def _first_of_content(content: SplitContent) -> dict[str, int]:
    digests = content.split.digests or ()
    return {digest: row for row, digest in reversed([*enumerate(digests)])}


def _nearest(hashes: Hash, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the nearest row before each of another group, among those that have a hash."""
    hashed = np.flatnonzero(hashes.any(axis=1))
    found = nearest_before(hashes[hashed], groups[hashed], MAX_DISTANCE)
    near = np.full(len(hashes), -1)
    near[hashed] = np.where(found < 0, -1, hashed[found])
    return near
