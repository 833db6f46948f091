"""A run's directory: what identifies the run, and the files it leaves."""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from data import Dataset, Split
from errors import InputError, one_line
from files import replacing
from models.recipe import Recipe
from records import (
    BEST_CONFIGS,
    EXPERIMENT,
    JOURNAL,
    SKIPPED,
    TEST_IMAGES,
    Cell,
    Event,
    ImagesRead,
    ListedImage,
    PrecisionChosen,
    Winner,
    holds_run,
    read_journal,
)
from search_spaces import Experiment
from tune.features.stage import Skipped

EXTENDABLE = ("name", "data.partitions", "data.max_unreadable", "data.extra_tests",
              "search.trials", "final", "resources", "features.cache", "features.batch_size",
              "report")  # fmt: skip
"""Keys that a resumed run may change: they add to what was done, or don't touch results."""
EARLIER = "earlier_methods"


class RunDirectory:
    """`results/<name>/`; with `resume`, the run that it holds goes on.

    Raises:
        InputError: it holds a run and `resume` is off, or it cannot be written to.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self._previous: dict[str, Any] | None = None
        try:
            if holds_run(read_journal(self.journal), path, resume):
                self._previous = _read(path / EXPERIMENT)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out: cannot write to {path}: {error.strerror}") from None

    @property
    def journal(self) -> Path:
        """Path of the run's journal."""
        return self.path / JOURNAL

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the run to this process; raise InputError if another one is working on it."""
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{self.path}: another process is working on this run") from None
            yield

    def resolved(self, experiment: Experiment, identity: Mapping[str, str]) -> dict[str, Any]:
        """Return what `record` is to write, having checked that it continues what was there.

        Raises:
            InputError: the run that is resumed differs in something its results rest on.
        """
        resolved = experiment.resolved() | {"identity": dict(identity)}
        if self._previous is not None:
            # Methods left out this time may come back, as they were.
            known = {**self._previous.get(EARLIER, {}), **self._previous.get("methods", {})}
            _check_continues({**self._previous, "methods": known}, resolved, self.path)
            resolved[EARLIER] = {k: v for k, v in known.items() if k not in resolved["methods"]}
        resolved["versions"] = {"python": platform.python_version()} | {
            package: version(package)
            for package in ("torch", "open_clip_torch", "ray", "optuna", "timm", "numpy")
        }
        return resolved

    def record(self, resolved: Mapping[str, Any]) -> None:
        """Write `experiment.yaml`: from here on the run is this one."""
        self._write(EXPERIMENT, yaml.safe_dump(dict(resolved), sort_keys=False))

    def check_images(self, images: Mapping[str, str], events: Iterable[Event]) -> None:
        """Check that a resumed run has the images that it was made with, content and all.

        `images` names the splits and the digests of what they hold.
        """
        if self._previous is None:
            return
        before = {n: d for e in events if isinstance(e, ImagesRead) for n, d in e.images.items()}
        if changed := [n for n, content in images.items() if before.get(n, content) != content]:
            raise InputError(
                f"--resume: {changed[0]} images have changed since {self.path} was made, or other "
                "ones cannot be read (skipped_images.csv); put them back, or --name starts another"
            )

    def check_precision(self, precision: str, events: Iterable[Event]) -> None:
        """Check that a resumed run computes as before; `auto` may mean another on other devices."""
        before = [e.precision for e in events if isinstance(e, PrecisionChosen)]
        if self._previous is not None and before and before[-1] != precision:
            raise InputError(
                f"--resume: {self.path} was made in {before[-1]}, and model.precision: auto is "
                f"{precision} on the devices that are there now; resume it on some like those, or "
                "--name starts another"
            )

    def write_winners(self, winners: Mapping[Cell, Winner], probe: str | None) -> None:
        """Write `best_configs.yaml`: each `config` is a `space:` of fixed values."""
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
            tree.setdefault(f"{cell.partition:g}", {})[cell.method] = entry
        self._write(BEST_CONFIGS, yaml.safe_dump(tree, sort_keys=False))

    def write_skipped(self, skipped: Iterable[Skipped], splits: Collection[str]) -> None:
        """Write the skipped images of `splits` to `skipped_images.csv`, after those of others."""
        before = SKIPPED.read(self.path).itertuples(index=False)
        SKIPPED.write(self.path, [*(row for row in before if row.split not in splits), *skipped])

    def write_test_images(self, sets: Mapping[str, Split]) -> None:
        """Write `test_images.csv`, in the order of the predictions in the final fits' files."""
        rows: list[ListedImage] = []
        for name, split in sets.items():
            groups = split.groups or ("",) * len(split)
            images = zip(split.keys, split.labels.tolist(), groups, strict=True)
            rows += [ListedImage(name, *image) for image in images]
        TEST_IMAGES.write(self.path, rows)

    def _write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as path:
            path.write_text(text, encoding="utf-8")


def identity(dataset: Dataset, fingerprint: str) -> dict[str, str]:
    """Name what results rest on besides the experiment: data as listed, and weights."""
    return {"model": fingerprint, "data": dataset.search_digest}


def _read(path: Path) -> dict[str, Any] | None:
    """Read the run before; None if it was killed before it wrote the file."""
    if not path.exists():
        return None
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: damaged ({one_line(error)}); put back what was there, "
            "or --name starts another"
        ) from None
    return tree if isinstance(tree, dict) else None


def _check_continues(previous: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    before, after = dict(_leaves(previous)), dict(_leaves(now))
    methods = previous.get("methods", {})
    for key in sorted({*before, *after}):
        new_method = key.startswith("methods.") and key.split(".")[1] not in methods
        gone = key.startswith("methods.") and key.split(".")[1] not in now["methods"]
        ignored = key.startswith((*EXTENDABLE, EARLIER, "versions"))
        trials = key.startswith("methods.") and key.endswith(".trials")
        if new_method or gone or ignored or trials or before.get(key) == after.get(key):
            continue
        if key == "identity.data":
            raise InputError(
                "--resume: the images, their classes, groups or splits are not those that "
                f"{path} was made with; put them back, or --name starts another run"
            )
        raise InputError(
            f"--resume: {key} is {after.get(key)!r}, but {path} was made with "
            f"{before.get(key)!r}; allowed to change: trials, partitions, methods, final seeds; "
            "--name starts another run"
        )


def _leaves(tree: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in sorted(config.items())}
