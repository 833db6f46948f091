"""A run's directory: what identifies the run, and the files it leaves."""

from __future__ import annotations

import csv
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from data import Dataset
from errors import InputError
from models.recipe import Recipe
from tune.experiment import Experiment
from tune.features import Skipped
from tune.groups import Group
from tune.search import Winner

EXTENDABLE = ("name", "data.partitions", "data.max_unreadable", "search.trials", "final",
              "resources", "features.cache", "features.batch_size", "report")  # fmt: skip
"""Keys that a resumed run may change: they add to what was done, or don't touch results."""


class RunDirectory:
    """`results/<name>/`.

    Args:
        path: the directory.
        resume: go on with the run that it holds, if it holds one.

    Raises:
        InputError: it holds a run and `resume` is off, or it cannot be written to.
    """

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self._previous: dict[str, Any] | None = None
        try:
            if self._file("experiment.yaml").exists() or self.journal.exists():
                if not resume:
                    raise InputError(
                        f"{path} already holds a run; --resume continues it, --name starts another"
                    )
                self._previous = _read(self._file("experiment.yaml"))
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out: cannot write to {path}: {error.strerror}") from None

    @property
    def journal(self) -> Path:
        return self._file("events.jsonl")

    @property
    def checkpoints(self) -> Path:
        """Absolute, as workers have their own current directories."""
        return self._file("checkpoints").absolute()

    def _file(self, name: str) -> Path:
        return self.path / name

    def record(self, experiment: Experiment, identity: Mapping[str, str]) -> None:
        """Write `experiment.yaml`, having checked that it continues what was there.

        Raises:
            InputError: the run that is resumed differs in something its results rest on.
        """
        resolved = experiment.resolved() | {"identity": dict(identity)}
        if self._previous is not None:
            _check_continues(self._previous, resolved, self.path)
        resolved["versions"] = {"python": platform.python_version()} | {
            package: version(package)
            for package in ("torch", "open_clip_torch", "ray", "optuna", "timm", "numpy")
        }
        self._write("experiment.yaml", yaml.safe_dump(resolved, sort_keys=False))

    def write_winners(self, winners: Mapping[Group, Winner], probe: str | None) -> None:
        """Write `best_configs.yaml`: each `config` is a `space:` of fixed values."""
        tree: dict[str, dict[str, Any]] = {}
        for group, winner in winners.items():
            entry: dict[str, Any] = {
                "val_accuracy": round(winner.val_accuracy, 6),
                "trial": winner.number,
                "samples": winner.samples,
                "config": _plain(winner.config),
            }
            recipe = Recipe(**winner.config)
            if recipe.head_start == "probe" and not recipe.frozen_encoder:
                entry["starts_from"] = probe
            tree.setdefault(f"{group.partition:g}", {})[group.method] = entry
        self._write("best_configs.yaml", yaml.safe_dump(tree, sort_keys=False))

    def write_skipped(self, skipped: Iterable[Skipped]) -> None:
        """Write `skipped_images.csv`, or remove it where nothing was skipped."""
        rows = [(s.split, s.key, s.reason) for s in skipped]
        if not rows:
            self._file("skipped_images.csv").unlink(missing_ok=True)
            return
        with self._file("skipped_images.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("split", "key", "reason"), *rows])

    def _write(self, name: str, text: str) -> None:
        temporary = self._file(f".{name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, self._file(name))


def identity(dataset: Dataset, fingerprint: str) -> dict[str, str]:
    """What the search's results rest on besides the experiment: data as listed, and weights."""
    digest = hashlib.sha256("\n".join(dataset.classes).encode())
    for split in (dataset.train, dataset.val):
        digest.update("\n".join(split.keys).encode())
        digest.update(split.labels.tobytes())
    return {"model": fingerprint, "data": digest.hexdigest()}


def _read(path: Path) -> dict[str, Any] | None:
    """A run killed before it wrote the file has nothing to be compared with."""
    if not path.exists():
        return None
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tree if isinstance(tree, dict) else None


def _check_continues(previous: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    before, after = dict(_leaves(previous)), dict(_leaves(now))
    methods = previous.get("methods", {})
    for key in sorted({*before, *after}):
        new_method = key.startswith("methods.") and key.split(".")[1] not in methods
        gone = key.startswith("methods.") and key.split(".")[1] not in now["methods"]
        ignored = key.startswith(EXTENDABLE) or key.startswith("versions")
        trials = key.startswith("methods.") and key.endswith(".trials")
        if new_method or gone or ignored or trials or before.get(key) == after.get(key):
            continue
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
        yield prefix, list(tree) if isinstance(tree, tuple) else tree


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in sorted(config.items())}
