"""From a DataConfig to labelled train, val and test splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.class_names import Words, doubtful_labels, shared_words, words_of
from data.config import DataConfig, SourceConfig
from data.depth import narrow_range
from data.sources import SOURCES, ImageSource, Listing
from data.sources.base import SplitName
from data.splits import numbered, stratified_split
from errors import InputError, did_you_mean


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split, one row each.

    Attributes:
        keys: names under which the source knows the images.
        labels: (n,) class ids, int64, read-only.
        groups: names of the images' groups, or None if the source names none.
        digests: digests of the images' content, or None before anyone has read them.
    """

    keys: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[str, ...] | None = None
    digests: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def group_ids(self) -> NDArray[np.int64] | None:
        """(n,) numbers of the groups, from 0 in order of appearance; None without groups."""
        return None if self.groups is None else numbered(self.groups)

    def select(self, rows: ArrayLike) -> Split:
        """Make a split of the given rows, in their order."""
        indices = np.asarray(rows, dtype=np.int64)
        groups = self.groups and tuple(self.groups[row] for row in indices)
        digests = self.digests and tuple(self.digests[row] for row in indices)
        keys = tuple(self.keys[row] for row in indices)
        return Split(keys, self.labels[indices], groups, digests)

    def without(self, rows: ArrayLike) -> Split:
        """Make a split of all rows but these."""
        return self.select(np.setdiff1d(np.arange(len(self)), np.asarray(rows, dtype=np.int64)))


@dataclass(frozen=True)
class TestSet:
    """Images that winners are scored on, and the source that reads them."""

    __test__ = False  # pytest takes the name for a test's

    split: Split
    source: ImageSource


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, divided. A label is an index into `classes`.

    Attributes:
        classes: class names, those of the training split.
        words: what prompts call each class, or its descriptions.
        source: reads the images of train and val.
        tests: the test sets by name; the first is "test".
        warnings: what a user should know about the splits, one line each.
        passed_over: what the sources hold beside these images, one line each.
    """

    classes: tuple[str, ...]
    words: tuple[Words, ...]
    train: Split
    val: Split
    source: ImageSource
    tests: Mapping[str, TestSet]
    warnings: tuple[str, ...]
    passed_over: tuple[str, ...] = ()

    @cached_property
    def search_digest(self) -> str:
        """SHA-256 of what a search depends on: classes, their words, train and val as listed."""
        return self._digest(self.train, self.val)

    @cached_property
    def scored_digest(self) -> str:
        """Names and SHA-256 of what winners are scored on: val and the test sets."""
        names = sorted(self.tests)
        return json.dumps([self._digest(self.val, *(self.tests[n].split for n in names)), names])

    def _digest(self, *splits: Split) -> str:
        words = (text if isinstance(text, str) else json.dumps(text) for text in self.words)
        digest = hashlib.sha256("\n".join((*self.classes, *words)).encode())
        for split in splits:
            digest.update("\n".join(split.keys).encode())
            digest.update(split.labels.tobytes())
            if split.groups is not None:
                digest.update("\n".join(split.groups).encode())
        return digest.hexdigest()


def load_dataset(config: DataConfig) -> Dataset:
    """List the images of `config`'s sources and draw the splits it lacks; read a few of train.

    Raises:
        InputError: a source is missing or ill-formed, has fewer than two classes, a class that
            training lacks, or too few images (or groups) to draw a split from; an extra test has
            the main source; or the file of class names is ill-formed.
    """
    listing = _list_images(config, "data")
    splits = np.array(listing.splits, dtype=object)
    _draw(config, listing, splits)
    classes = _class_names(config, listing, splits)
    words = words_of(classes, config.class_names)
    ids = {name: number for number, name in enumerate(classes)}
    train, val, test = (
        _split(listing, np.flatnonzero(splits == name), ids) for name in ("train", "val", "test")
    )
    tests = {"test": TestSet(test, listing.source)}
    passed_over = list(listing.passed_over)
    for name, extra in config.extra_tests.items():
        tests[name], left = _extra_test(name, extra, config, ids)
        passed_over += [f"{name}: {line}" for line in left]
    judged = {"val": val} | {name: each.split for name, each in tests.items()}
    warnings = (
        *(line for name, split in judged.items() for line in _absent_classes(name, split, classes)),
        *_straddling_groups(listing, splits),
        *shared_words(classes, words),
        *doubtful_labels(classes),
        *narrow_range(listing.source, train.keys),
    )
    return Dataset(classes, words, train, val, listing.source, tests, warnings, tuple(passed_over))


def check_sources(config: DataConfig) -> None:
    """Raise InputError if a source's place is not there; no image is listed."""
    extra = {f"data.extra_tests.{name}": source for name, source in config.extra_tests.items()}
    for section, source in {"data": config, **extra}.items():
        with _in_section(section):
            SOURCES[source.kind].check(source)


def _list_images(config: SourceConfig, section: str) -> Listing:
    """List a source's images; errors start with `section`, the experiment's key that holds it."""
    with _in_section(section):
        return SOURCES[config.kind].list_images(config)


@contextmanager
def _in_section(section: str) -> Iterator[None]:
    """Put the key that holds a source before errors, which start with one of its own keys."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{section}.{error}") from error


def _split(listing: Listing, rows: NDArray[np.int64], ids: Mapping[str, int]) -> Split:
    labels = np.array([ids[listing.labels[row]] for row in rows], dtype=np.int64)
    groups = listing.groups and tuple(listing.groups[row] for row in rows)
    return Split(tuple(listing.keys[row] for row in rows), labels, groups)


def _extra_test(
    name: str, extra: SourceConfig, config: DataConfig, ids: Mapping[str, int]
) -> tuple[TestSet, tuple[str, ...]]:
    """The source's test split, or all its images if it has none; and what it passed over."""
    section = f"data.extra_tests.{name}"
    if _same_images(extra, config):
        raise InputError(
            f"{section}.source: {extra.source} is data.source itself; "
            "allowed are other images, such as another folder's or table's"
        )
    listing = _list_images(extra, section)
    own = np.array([split == "test" for split in listing.splits])
    rows = np.flatnonzero(own if own.any() else ~own)
    for label in dict.fromkeys(listing.labels[row] for row in rows):
        if label not in ids:
            hint = did_you_mean(label, ids)
            raise InputError(
                f"{section}.source: {extra.source} has class {label!r}, which train lacks; "
                f"{hint}allowed are the {len(ids)} classes of train"
            )
    return TestSet(_split(listing, rows, ids), listing.source), listing.passed_over


def _same_images(one: SourceConfig, other: SourceConfig) -> bool:
    kind = SOURCES[one.kind]
    return one.kind == other.kind and kind.canonical(one) == kind.canonical(other)


def _draw(config: DataConfig, listing: Listing, splits: NDArray[np.object_]) -> None:
    """Move rows of `train` to `test`, then to `val`, if the listing lacks them (in place)."""
    labels = np.unique(np.array(listing.labels), return_inverse=True)[1]
    undivided = np.count_nonzero(splits == "train")
    if not undivided:
        raise InputError(f"data.source: {config.source} has no training images")
    shares: dict[SplitName, float] = {"test": config.test_fraction, "val": config.val_fraction}
    for name, share in shares.items():
        if name in splits:
            continue
        train = np.flatnonzero(splits == "train")
        groups = listing.groups and [listing.groups[row] for row in train]
        fraction = share * undivided / len(train)
        _, drawn = stratified_split(labels[train], groups, fraction, config.split_seed)
        if not len(drawn):
            raise InputError(
                f"data.source: {config.source} has too few images (or groups) to draw "
                f"{name} from train; every class keeps one in train"
            )
        splits[train[drawn]] = name


def _class_names(
    config: DataConfig, listing: Listing, splits: NDArray[np.object_]
) -> tuple[str, ...]:
    """The training split's classes, in the source's order or sorted (whole numbers by value)."""
    trained = {listing.labels[row] for row in np.flatnonzero(splits == "train")}
    for label, split in zip(listing.labels, splits, strict=True):
        if label not in trained:
            own = {listing.labels[row] for row in np.flatnonzero(splits == split)}
            hint = did_you_mean(label, trained)
            if not own & trained:
                hint = f"without labels, take {split} away, and it is drawn from train; "
            raise InputError(
                f"data.source: {config.source} has class {label!r} in {split} but not in train; "
                f"{hint}allowed are the {len(trained)} classes of train"
            )
    if len(trained) < 2:
        raise InputError(
            f"data.source: {config.source} has one class, {trained.pop()!r}; needed are two or more"
        )
    if listing.classes is not None:
        return tuple(name for name in listing.classes if name in trained)
    if all(name.isdecimal() for name in trained):
        return tuple(sorted(trained, key=lambda name: (int(name), name)))
    return tuple(sorted(trained))


def _absent_classes(name: str, split: Split, classes: Sequence[str]) -> Iterator[str]:
    present = set(split.labels.tolist())
    if absent := [label for number, label in enumerate(classes) if number not in present]:
        few = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        yield f"{name} has no image of {len(absent)} of {len(classes)} classes: {few}"


def _straddling_groups(listing: Listing, splits: NDArray[np.object_]) -> Iterator[str]:
    """Warn if the source's own splits divide groups; they are kept as they are."""
    homes: dict[str, set[str]] = {}
    for group, split in zip(listing.groups or (), splits, strict=False):  # it may name no groups
        homes.setdefault(group, set()).add(split)
    if divided := [group for group, names in homes.items() if len(names) > 1]:
        yield f"{len(divided)} groups have images in more than one split, such as {divided[0]!r}"
