"""A run's directory: what identifies the run, and the files it leaves."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import numpy as np
import yaml

from data import Dataset, Split
from data.decoding import DECODING
from errors import InputError, one_line, shown
from files import replacing
from models.recipe import Recipe
from partitions import Partition, named
from records import (
    BEST,
    BEST_CONFIGS,
    CLASSES,
    DUPLICATES,
    EXPERIMENT,
    FILES,
    FINAL_FITS,
    FOLDERS,
    JOURNAL,
    LABEL_ISSUES,
    LOCK,
    SKIPPED,
    TABLES,
    TEST,
    TEST_IMAGES,
    WINNERS,
    Cell,
    ClassCount,
    Event,
    ImagesRead,
    ListedImage,
    PrecisionChosen,
    RunStarted,
    Winner,
    holds_run,
    read_journal,
)
from search_spaces import Experiment
from search_spaces.recorded import EARLIER
from tune.features.stage import Skipped
from tune.workers.own_parts import code_digest

EXTENDABLE = ("name", "data.partitions", "data.shots", "data.max_unreadable", "data.extra_tests",
              "search.trials", "final", "resources", "features.cache", "features.local",
              "features.batch_size", "report", "loggers")  # fmt: skip
"""Keys that a resumed run may change: they add to what was done, or don't touch results."""
MOVABLE = ("data.source", "data.root", "data.class_names",
           "model.name", "model.pretrained", "model.concat")  # fmt: skip
"""Keys that say where things are; that they are the same things, `identity` says."""
CONTENTS = {
    "identity.data": "the images, their classes, groups or splits",
    "identity.code": "the files that --import runs",
    "identity.model": "the encoder's weights or its preprocessing",
    "identity.text": "the weights of the text tower or its tokenizer",
}
KEPT = ("run", "text")
"""Parts of the identity that a resumed run may not know: its own, and what no method asks for."""
MENDED = "put it back, or --name starts another"


class RunDirectory:
    """`results/<name>/`; with `resume`, the run that it holds goes on.

    Attributes:
        events: those of the journal.

    Raises:
        InputError: it holds a run and `resume` is off, it holds a part of one, its journal is of
            another run, or it cannot be written to.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self._previous: dict[str, Any] | None = None
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            self._check_places()
            self.events = read_journal(self.journal)
            if holds_run(self.events, path, resume):
                self._previous = self._read()
            else:
                self._check_unused()

    @property
    def journal(self) -> Path:
        """Path of the run's journal."""
        return self.path / JOURNAL

    @classmethod
    @contextmanager
    def locked(cls, path: Path, resume: bool) -> Iterator[RunDirectory]:
        """Open a directory, and keep the run to this process.

        Raises:
            InputError: another process is working on it, or as `RunDirectory` does.
        """
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
            file = (path / LOCK).open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{path}: another process is working on this run") from None
            yield cls(path, resume)

    def _check_places(self) -> None:
        """Check, before hours of work, that files and folders can have their names."""
        for name in (*FILES, *(table.file for table in TABLES)):
            if (place := self.path / name).is_dir():
                raise InputError(f"{place} is a folder; move it away, as a file is written there")
        for name in FOLDERS:
            if (place := self.path / name).exists() and not place.is_dir():
                raise InputError(f"{place} is no folder; move it away, as one is made there")

    def _check_unused(self) -> None:
        """Check that nothing is here of a run whose journal has gone; no trial, no results."""
        results = {name for name in (FINAL_FITS, WINNERS) if any((self.path / name).glob("*"))}
        before = {name for name in (EXPERIMENT, BEST_CONFIGS) if (self.path / name).exists()}
        if left := sorted(results if self.events else results | before):
            raise InputError(
                f"{self.journal} is missing or holds no trial, but {left[0]} is of a run; {MENDED}"
            )

    def _read(self) -> dict[str, Any]:
        """Read what the run before wrote of itself; check that the journal is its own."""
        path = self.path / EXPERIMENT
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
            found = dict(tree["identity"])
            # Methods that were left out may come back, as they were.
            tree["methods"] = {**tree.get(EARLIER, {}), **tree["methods"]}
        except FileNotFoundError:
            raise InputError(f"{path} is missing, and the run has trials; {MENDED}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: damaged ({one_line(error)}); {MENDED}") from None
        except (TypeError, KeyError, AttributeError, ValueError):
            raise InputError(f"{path} is empty or not of a run; {MENDED}") from None
        starts = [event for event in self.events if isinstance(event, RunStarted)]
        told = starts[-1].identity if starts else {}
        both = found.keys() & told.keys()
        if "run" not in both or any(found[key] != told[key] for key in both):
            raise InputError(f"{self.journal} is of another run than {path}; {MENDED}")
        if "train" in images_read(self.events):
            raise InputError(
                f"--resume: an earlier version made {self.path}, whose partitions were drawn from "
                "readable images only; --name starts another run"
            )
        return dict(tree)

    def resolved(self, experiment: Experiment, identity: Mapping[str, str]) -> dict[str, Any]:
        """Return what `record` is to write, having checked that it continues what was there.

        Raises:
            InputError: the run that is resumed differs in something its results rest on.
        """
        before = {"run": uuid4().hex} if self._previous is None else self._previous["identity"]
        kept = {key: before[key] for key in KEPT if key in before}
        resolved = experiment.resolved() | {"identity": {**kept, **identity}}
        if self._previous is not None:
            known = self._previous["methods"]
            _check_continues(self._previous, resolved, self.path)
            resolved[EARLIER] = {k: v for k, v in known.items() if k not in resolved["methods"]}
        return resolved

    def record(self, resolved: Mapping[str, Any]) -> None:
        """Write `experiment.yaml`: from here on the run is this one."""
        self._write(EXPERIMENT, yaml.safe_dump(dict(resolved), sort_keys=False))

    def check_images(self, images: Mapping[str, str], events: Iterable[Event]) -> None:
        """Check that a resumed run has the images that it was made with, content and all.

        `images` are digests, by the name of a test set or, as `10/seed0`, of a partition's draw.
        """
        before = images_read(events)
        changed = [name for name, content in images.items() if before.get(name, content) != content]
        if self._previous is not None and changed:
            split = "train or val" if "/" in changed[0] else changed[0]
            raise InputError(
                f"--resume: {split} images have changed since {self.path} was made, or other "
                "ones cannot be read (skipped_images.csv); put them back, or --name starts another"
            )

    def forget_lists(self, images: Mapping[str, str], events: Iterable[Event]) -> None:
        """Remove lists of labels and duplicates made without some of the draws of `images`."""
        if images.keys() - images_read(events).keys():
            for table in (LABEL_ISSUES, DUPLICATES):
                (self.path / table.file).unlink(missing_ok=True)

    def check_precision(self, precision: str, events: Iterable[Event]) -> None:
        """Check that a resumed run computes as before; `auto` may mean another on other devices."""
        before = [e.precision for e in events if isinstance(e, PrecisionChosen)]
        if self._previous is not None and before and before[-1] != precision:
            raise InputError(
                f"--resume: {self.path} was made in {before[-1]}, and model.precision: auto is "
                f"{precision} on the devices that are there now; resume it on some like those, or "
                "--name starts another"
            )

    @property
    def lists_images(self) -> bool:
        """Whether duplicates are listed, and all test images, which intervals need."""
        try:
            listed = bool(TEST_IMAGES.read(self.path).size)
            return listed and (self.path / DUPLICATES.file).exists()
        except InputError:
            return False

    def write_winners(
        self,
        winners: Mapping[Cell, Winner],
        probe: str | None,
        best: Mapping[Partition, str] = MappingProxyType({}),
    ) -> None:
        """Write `best_configs.yaml`: each `config` is a `space:` of fixed values.

        `best` names a partition's best method, which stands first there, once it is known.
        """
        tree: dict[str, dict[str, Any]] = {}
        for cell, winner in winners.items():
            entry: dict[str, Any] = {
                "val_accuracy": round(winner.val_accuracy, 6),
                "trial": winner.trial,
                "samples": winner.samples,
                "config": _plain(winner.config),
            }
            if Recipe(**winner.config).start == "probe":
                entry["starts_from"] = probe
            tree.setdefault(named(cell.partition), {})[cell.method] = entry
        for partition, method in best.items():
            row = tree[named(partition)]
            tree[named(partition)] = {BEST: {"method": method, **deepcopy(row[method])}} | row
        self._write(BEST_CONFIGS, yaml.safe_dump(tree, sort_keys=False))

    def write_skipped(self, skipped: Iterable[Skipped], splits: Collection[str]) -> None:
        """Write the skipped images of `splits` to `skipped_images.csv`, after those of others."""
        before = SKIPPED.read(self.path).itertuples(index=False)
        SKIPPED.write(self.path, [*(row for row in before if row.split not in splits), *skipped])

    def write_test_images(self, sets: Mapping[str, Split], classes: Sequence[str]) -> None:
        """Write `test_images.csv`, in the order of the predictions in the final fits' files."""
        rows: list[ListedImage] = []
        for name, split in sets.items():
            groups = split.groups or ("",) * len(split)
            labels = split.labels.tolist()
            names = [classes[label] for label in labels]
            images = zip(split.keys, labels, groups, names, strict=True)
            rows += [ListedImage(name, *image) for image in images]
        TEST_IMAGES.write(self.path, rows)

    def write_classes(self, splits: Mapping[str, Split], classes: Sequence[str]) -> None:
        """Write `classes.csv`: the images of each class in train, validation and test."""
        counted = [
            np.bincount(splits[name].labels, minlength=len(classes)).tolist()
            for name in ("train", "val", TEST)
        ]
        CLASSES.write(self.path, map(ClassCount, classes, *counted))

    def _write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as path:
            path.write_text(text, encoding="utf-8")


def identity(dataset: Dataset, fingerprint: str, text_fingerprint: str = "") -> dict[str, str]:
    """Name what results rest on besides the experiment: data as listed and read, weights, code."""
    text = {"text": text_fingerprint} if text_fingerprint else {}
    code = {"code": digest} if (digest := code_digest()) else {}
    read = {"data": dataset.search_digest, "decoding": str(DECODING)}
    return {"model": fingerprint} | read | text | code


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise InputError(f"--out: cannot write to {place}: {error.strerror}") from None


def images_read(events: Iterable[Event]) -> dict[str, str]:
    """Return what was last told of each draw and test set."""
    return {
        name: content
        for event in events
        if isinstance(event, ImagesRead)
        for name, content in event.images.items()
    }


def _check_continues(previous: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    before, after = dict(_leaves(previous)), dict(_leaves(now))
    methods = previous.get("methods", {})
    # A default that is gone because its parameter was fixed is no more than a consequence.
    for key in sorted({*before, *after}, key=lambda key: (".default." in key, key)):
        new_method = key.startswith("methods.") and key.split(".")[1] not in methods
        gone = key.startswith("methods.") and key.split(".")[1] not in now["methods"]
        ignored = key.startswith((*EXTENDABLE, *MOVABLE, EARLIER))
        trials = key.startswith("methods.") and key.endswith((".trials", ".rows"))
        # The text tower is not looked at before a method needs it.
        text = key == "identity.text" and key not in before
        if new_method or gone or ignored or trials or text or before.get(key) == after.get(key):
            continue
        if key.startswith("identity."):
            raise InputError(f"--resume: {otherwise(key, path)}, or --name starts another run")
        raise InputError(
            f"--resume: {key} is {shown(after.get(key))}, but {path} was made with "
            f"{shown(before.get(key))}; allowed to change: trials, partitions, shots, methods, "
            "final seeds; --name starts another run"
        )


def otherwise(key: str, path: Path) -> str:
    """Say which part of a run's identity is another one now, and what to do."""
    if key == "identity.decoding":
        return f"{path} is of another version, which read large photos otherwise; take that version"
    return f"{CONTENTS[key]} are not those that {path} was made with; put them back"


def _leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in sorted(config.items())}
