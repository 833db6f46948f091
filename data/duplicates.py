"""Images that are there twice: in two splits, of two classes, or as one file in two places.

A photo that is in train and in test, perhaps saved anew or at another size, makes a test score too
high. One that has two classes makes it too low, wherever it lies. Perceptual hashes survive a new
encoding and another size. They ignore colour, and recognise neither a crop nor a second shot of the
same scene.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.dataset import Split

HASH_SIDE = 12
"""144 bits. The usual 64 are too few for small images: they take 3 of 450 scanned test digits for
duplicates of other digits, whose 144 bits differ in 10 or more."""
HASH_BYTES = HASH_SIDE * HASH_SIDE // 8
MAX_DISTANCE = 4
"""Bits by which near duplicates may differ. JPEG down to quality 50 and other sizes change up to
4 bits of a photo; equal hashes alone miss 9 to 30 % of such copies."""
MIN_CONTRAST = 8
"""Grey levels (of 255) that an image must span, in small, to have a hash."""

_BOUNDS = [part * HASH_BYTES // (MAX_DISTANCE + 1) for part in range(MAX_DISTANCE + 2)]

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


def find_duplicates(splits: Mapping[str, SplitContent], classes: Sequence[str]) -> list[Duplicate]:
    """Find images that occur twice, by content (exact) or perceptual hash (near).

    Every image of a split is compared with every earlier split, and listed at most once for each:
    with the first image of the same content, else with the image of the nearest hash (the first
    of equals), if no more than MAX_DISTANCE bits differ. In its own split it is compared with the
    images before it that have another class, and with the same content of its own.

    Time grows with the number of images, not of pairs: of two hashes that are cut into
    MAX_DISTANCE + 1 parts and differ in MAX_DISTANCE bits, one part is equal, and is looked up.
    """

    def listed(a: str, b: str, matches: Iterable[Match]) -> Iterator[Duplicate]:
        one, other = splits[a].split, splits[b].split
        for kind, x, y in matches:
            names = classes[one.labels[x]], classes[other.labels[y]]
            yield Duplicate(kind, a, one.keys[x], b, other.keys[y], *names)

    indices = {name: _Index(content) for name, content in splits.items()}
    found: list[Duplicate] = []
    for a, b in combinations(splits, 2):
        found += listed(a, b, indices[a].matches(splits[b]))
    for name, index in indices.items():
        found += listed(name, name, index.repeats)
    return found


class _Index:
    """First rows of a split by content, by hash, and by the parts of their hashes: of each class.

    Attributes:
        repeats: rows that are there twice, with different classes or the same content, the earlier
            first.
    """

    def __init__(self, content: SplitContent) -> None:
        self._hashes = content.hashes
        self._labels: list[int] = content.split.labels.tolist()
        self._by_digest: dict[str, list[int]] = defaultdict(list)
        self._by_hash: dict[bytes, list[int]] = defaultdict(list)
        self._by_part: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        self.repeats: list[Match] = []
        for row, digest, packed in _rows(content):
            label = self._labels[row]
            if match := self._match(digest, packed, label) or self._same(digest):
                self.repeats.append((*match, row))
            self._add(self._by_digest[digest], row)
            if any(packed) and self._add(self._by_hash[packed], row):
                for part in _parts(packed):
                    self._by_part[part].append(row)

    def matches(self, content: SplitContent) -> Iterator[Match]:
        """Yield the images of another split that are here."""
        for row, digest, packed in _rows(content):
            if match := self._match(digest, packed):
                yield *match, row

    def _add(self, rows: list[int], row: int) -> bool:
        """Add a row to equal ones, if it is the first of its class."""
        first = all(self._labels[other] != self._labels[row] for other in rows)
        if first:
            rows.append(row)
        return first

    def _same(self, digest: str) -> tuple[Kind, int] | None:
        """Find the first image of the same content."""
        rows = self._by_digest.get(digest)
        return ("exact", rows[0]) if rows else None

    def _match(
        self, digest: str, packed: bytes, label: int | None = None
    ) -> tuple[Kind, int] | None:
        """Find the same or the nearest image; with `label`, of another class."""
        for row in self._by_digest.get(digest, ()):
            if self._labels[row] != label:
                return "exact", row
        near = self._nearest(packed, label) if any(packed) else None
        return None if near is None else ("near", near)

    def _nearest(self, packed: bytes, label: int | None) -> int | None:
        for row in self._by_hash.get(packed, ()):
            if self._labels[row] != label:
                return row
        near = {row for part in _parts(packed) for row in self._by_part.get(part, ())}
        rows = sorted(row for row in near if self._labels[row] != label)
        if not rows:
            return None
        differing = self._hashes[rows] ^ np.frombuffer(packed, np.uint8)
        distances = np.bitwise_count(differing).sum(axis=1)
        best = int(distances.argmin())
        return rows[best] if distances[best] <= MAX_DISTANCE else None


def _rows(content: SplitContent) -> Iterator[tuple[int, str, bytes]]:
    for row, digest in enumerate(content.split.digests or ()):
        yield row, digest, content.hashes[row].tobytes()


def _parts(packed: bytes) -> Iterator[tuple[int, bytes]]:
    for number, (begin, end) in enumerate(pairwise(_BOUNDS)):
        yield number, packed[begin:end]
