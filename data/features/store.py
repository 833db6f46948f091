"""Features on disk, addressed by content: what was computed once is never computed again.

    <root>/<fingerprint>/<boundary>/<name>.safetensors   shards, in any number
    <root>/<fingerprint>/<name>                          notes on the encoder

A row is found by the digest of its image, so one new image costs one image; data-set libraries key
their caches by the whole set or by file name, so this store is our own. A damaged shard is set
aside (`*.corrupt`) and its rows are missing again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from data.features.rows import ShardRows
from data.features.shards import (
    Arrays,
    CorruptShardError,
    Placed,
    places_of,
    read_digests,
    read_places,
    read_shard,
    write_shard,
)
from errors import InputError
from files import expanded, replacing

log = logging.getLogger(__name__)

WAITS = (0.1, 1.0, 10.0)
"""Seconds between looks for a shard that another machine has written."""

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""The type of each array, and the shape of a row."""


class MissingFeaturesError(LookupError):
    """Features that are not on disk."""


def cache_root(configured: Path | None) -> Path:
    """Find the cache directory: as configured, else $CLIP_SEARCH_CACHE, else the user's cache."""
    if configured is not None:
        return expanded(configured, "features.cache").absolute()
    if chosen := os.environ.get("CLIP_SEARCH_CACHE"):
        return expanded(chosen, "CLIP_SEARCH_CACHE").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(home, "XDG_CACHE_HOME").absolute() / "clip-adaptation-search"


class FeatureStore:
    """The features of one encoder. Pickles as its arguments; processes may share a root.

    `missing` says what to compute and `add`; then `load` or `locate`. Those set a damaged shard
    aside and raise MissingFeaturesError: compute its rows and ask again. Every method raises
    InputError if the cache directory cannot be used.

    Args:
        root: the cache directory; the first write makes it.
        fingerprint: names everything that determines the features of an image at a boundary: the
            encoder's weights, the preprocessing, the type. Like a boundary, it names a folder.
        local: a folder on a disk of each machine's own, where rows that were located are read.
    """

    def __init__(self, root: Path, fingerprint: str, local: Path | None = None) -> None:
        self.root = root
        self.fingerprint = fingerprint
        self.local = local
        self._digests: dict[Path, list[str]] = {}  # of every shard seen
        self._adopted: dict[str, set[Path]] = {}  # shards by boundary
        self._placed: dict[Path, dict[str, Placed]] = {}  # of shards that were located
        self._layouts: dict[str, Layout] = {}  # by boundary

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path, str, Path | None]]:
        return FeatureStore, (self.root, self.fingerprint, self.local)

    def missing(self, boundary: str, digests: Sequence[str]) -> list[int]:
        """Find the positions in `digests` without features on disk; the first of equal digests."""
        absent: dict[str, int] = {}
        present = self._locations(boundary)
        for position, digest in enumerate(digests):
            if digest not in present:
                absent.setdefault(digest, position)
        return list(absent.values())

    def add(self, boundary: str, digests: Sequence[str], features: Arrays) -> None:
        """Write one shard: row i of every array in `features` belongs to `digests[i]`."""
        if not digests or not features:
            raise ValueError("a shard needs at least one row and one array")
        for name, array in features.items():
            if array.shape[:1] != (len(digests),):
                raise ValueError(f"{name}: shape {array.shape}, but {len(digests)} digests")
        with self._usable("write"):
            write_shard(self._shard(boundary, digests), digests, features)

    def adopt(self, boundary: str, digests: Sequence[str], machine: str) -> None:
        """Take over the shard that a store object on another `machine` has written of `digests`.

        A folder on a network may be listed without it for a while, so it is known by its name.

        Raises:
            InputError: it is not here: that machine has another disk under this path.
        """
        shard = self._shard(boundary, digests)
        for wait in (*WAITS, None):
            with self._usable("read"), contextlib.suppress(FileNotFoundError):
                shard.stat()
                break
            if wait is None:
                raise InputError(
                    f"features.cache: {self.root}: what {machine} writes there is not seen here; "
                    "every machine of the cluster needs it at the same path"
                )
            time.sleep(wait)
        self._digests[shard] = list(digests)
        self._adopted.setdefault(boundary, set()).add(shard)

    def load(self, boundary: str, digests: Sequence[str]) -> Arrays:
        """Load the features in the order of `digests`, read-only, and verify their checksums."""
        arrays: Arrays = {}
        for shard, (positions, rows) in self._plan(boundary, digests).items():
            features = self._read(boundary, shard)
            for name, array in features.items():
                if name not in arrays:
                    arrays[name] = np.empty((len(digests), *array.shape[1:]), array.dtype)
                arrays[name][positions] = array[rows]
        for array in arrays.values():
            array.setflags(write=False)
        return arrays

    def locate(self, boundary: str, digests: Sequence[str]) -> dict[str, ShardRows]:
        """Find where the features lie, in the order of `digests`: for those larger than memory.

        A row is verified when it is read. A shard of an earlier commit, which has no checksums of
        rows, is read once by each store object.
        """
        plan = self._plan(boundary, digests)
        places = np.empty((len(digests), 2), np.int32)
        placed = [self._located(boundary, shard) for shard in plan]
        local = self.local / self.fingerprint / boundary if self.local else None
        shards, arrays = tuple(plan), {}
        for name, (dtype, shape) in self._layouts[boundary].items():
            sums = np.empty(len(digests), np.uint32)
            for number, (positions, rows) in enumerate(plan.values()):
                places[positions, 0], places[positions, 1] = number, rows
                sums[positions] = placed[number][name].sums[rows]
            starts = tuple(each[name].start for each in placed)
            arrays[name] = ShardRows(shards, starts, places, sums, shape, np.dtype(dtype), local)
        return arrays

    def note(self, name: str, text: str) -> None:
        """Write a file about the encoder beside its features."""
        with self._usable("write"), replacing(self.root / self.fingerprint / name) as path:
            path.write_text(text, encoding="utf-8")

    def noted(self, name: str) -> str | None:
        """Read what `note` has written last; None if there is nothing."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError, UnicodeError):
            return (self.root / self.fingerprint / name).read_text(encoding="utf-8")
        return None

    def _plan(
        self, boundary: str, digests: Sequence[str]
    ) -> dict[Path, tuple[list[int], list[int]]]:
        """Find, by shard, the positions in `digests` and the shard's rows that go there."""
        locations = self._locations(boundary)
        plan: dict[Path, tuple[list[int], list[int]]] = {}
        for position, digest in enumerate(digests):
            if digest not in locations:
                raise MissingFeaturesError(f"no features of {digest} at boundary {boundary!r}")
            shard, row = locations[digest]
            positions, rows = plan.setdefault(shard, ([], []))
            positions.append(position)
            rows.append(row)
        return plan

    def _locations(self, boundary: str) -> dict[str, tuple[Path, int]]:
        """Find shard and row of every digest on disk, from the shards' headers."""
        locations: dict[str, tuple[Path, int]] = {}
        with self._usable("read"):
            listed = self._folder(boundary).glob("*.safetensors")
            for shard in sorted({*listed, *self._adopted.get(boundary, ())}):
                if shard not in self._digests:
                    try:
                        self._digests[shard] = read_digests(shard)
                    except FileNotFoundError:  # another process has just set it aside
                        continue
                    except CorruptShardError as error:
                        self._set_aside(boundary, shard, error)
                        continue
                for row, digest in enumerate(self._digests[shard]):
                    locations[digest] = shard, row
        return locations

    def _read(self, boundary: str, shard: Path) -> Arrays:
        with self._sound(boundary, shard):
            digests, arrays = read_shard(shard)
            self._check(boundary, shard, digests, _layout(arrays))
            return arrays

    def _located(self, boundary: str, shard: Path) -> dict[str, Placed]:
        """Find where a shard's rows lie, and their checksums."""
        if shard not in self._placed:
            with self._sound(boundary, shard):
                if (found := read_places(shard)) is None:
                    digests, arrays = read_shard(shard)
                    found = digests, places_of(shard, arrays)
                digests, placed = found
                layout = {name: (placed[name].dtype, placed[name].shape) for name in sorted(placed)}
                self._check(boundary, shard, digests, layout)
            self._placed[shard] = placed
        return self._placed[shard]

    @contextmanager
    def _sound(self, boundary: str, shard: Path) -> Iterator[None]:
        """Set a damaged shard aside, and raise MissingFeaturesError if it is that or gone."""
        try:
            with self._usable("read"):
                yield
        except FileNotFoundError as error:
            self._forget(boundary, shard)
            raise MissingFeaturesError(f"{shard} is gone, from boundary {boundary!r}") from error
        except CorruptShardError as error:
            self._set_aside(boundary, shard, error)
            raise MissingFeaturesError(f"{shard} was damaged; compute its rows again") from error

    def _check(self, boundary: str, shard: Path, digests: list[str], layout: Layout) -> None:
        """Raise an error if a shard has other rows than it had, or is not like its boundary's."""
        if digests != self._digests[shard]:
            raise CorruptShardError(f"{shard}: its header has changed")
        if (known := self._layouts.setdefault(boundary, layout)) != layout:
            raise ValueError(
                f"{shard} holds {layout}, other shards {known}: "
                f"two encoders share the fingerprint {self.fingerprint}"
            )

    def _forget(self, boundary: str, shard: Path) -> None:
        self._digests.pop(shard, None)
        self._placed.pop(shard, None)
        self._adopted.get(boundary, set()).discard(shard)

    def _set_aside(self, boundary: str, shard: Path, error: CorruptShardError) -> None:
        log.warning("set aside, to be computed again: %s", error)
        self._forget(boundary, shard)
        with self._usable("set aside a damaged shard"), contextlib.suppress(FileNotFoundError):
            shard.rename(shard.with_suffix(".corrupt"))

    def _folder(self, boundary: str) -> Path:
        return self.root / self.fingerprint / boundary

    def _shard(self, boundary: str, digests: Sequence[str]) -> Path:
        name = hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]
        return self._folder(boundary) / f"{name}.safetensors"

    @contextmanager
    def _usable(self, action: str) -> Iterator[None]:
        """Turn an error of the disk into an InputError; FileNotFoundError passes."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(
                f"cache directory {self.root}: cannot {action} features "
                f"({error.strerror or error}); it must be a writable folder with free space"
            ) from error


def _layout(arrays: Arrays) -> Layout:
    """What all shards of a boundary agree on: each array's type and the shape of a row."""
    return {name: (array.dtype.str, array.shape[1:]) for name, array in sorted(arrays.items())}
