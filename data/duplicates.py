"""Images that two splits have in common: the same content, or the same to the eye.

A photo that is in train and in test, perhaps saved anew or at another size, makes a test score too
high. Perceptual hashes survive both changes. They ignore colour, and recognise neither a crop nor
a second shot of the same scene.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
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
    """An image that two splits hold: `exact` by content, `near` by looks."""

    kind: Literal["exact", "near"]
    split_a: str
    key_a: str
    split_b: str
    key_b: str


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


def find_duplicates(splits: Mapping[str, SplitContent]) -> list[Duplicate]:
    """Find images that occur in two splits, by content (exact) or perceptual hash (near).

    Every image of a split is compared with every earlier split, and listed at most once for each:
    with the first image of the same content, else with the image of the nearest hash (the first
    of equals), if no more than MAX_DISTANCE bits differ.

    Time grows with the number of images, not of pairs: of two hashes that are cut into
    MAX_DISTANCE + 1 parts and differ in MAX_DISTANCE bits, one part is equal, and is looked up.
    """
    indices = {name: _Index(content) for name, content in splits.items()}
    return [
        Duplicate(kind, a, splits[a].split.keys[row_a], b, splits[b].split.keys[row_b])
        for a, b in combinations(splits, 2)
        for kind, row_a, row_b in indices[a].matches(splits[b])
    ]


class _Index:
    """First rows of a split by content, by hash, and by the parts of their hashes."""

    def __init__(self, content: SplitContent) -> None:
        self._hashes = content.hashes
        self._by_digest: dict[str, int] = {}
        self._by_hash: dict[bytes, int] = {}
        self._by_part: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for row, digest, packed in _rows(content):
            self._by_digest.setdefault(digest, row)
            if any(packed) and self._by_hash.setdefault(packed, row) == row:
                for part in _parts(packed):
                    self._by_part[part].append(row)

    def matches(self, content: SplitContent) -> Iterator[tuple[Literal["exact", "near"], int, int]]:
        """Yield (kind, row here, row of `content`)."""
        for row, digest, packed in _rows(content):
            if (same := self._by_digest.get(digest)) is not None:
                yield "exact", same, row
            elif any(packed) and (near := self._nearest(packed)) is not None:
                yield "near", near, row

    def _nearest(self, packed: bytes) -> int | None:
        if (equal := self._by_hash.get(packed)) is not None:
            return equal
        rows = sorted({row for part in _parts(packed) for row in self._by_part.get(part, ())})
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
