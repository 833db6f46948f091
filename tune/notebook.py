"""A search from Python, as in a notebook, and what it found.

    from tune import load_run, run_search

    run = run_search("folder:photos", quick=True)
    run.table                                 # a pandas frame, one row a cell
    run.best(10).predict(["photo.jpg"])       # by the best winner of 10% of the labels
    run = load_run("results/photos-quick")    # later

A mistake is an `errors.InputError`, which names an argument as the command line does (`--trials`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from data import UnreadableImageError
from errors import InputError, shown
from partitions import Partition, Shots, named, parsed
from records import BEST, Cell
from report.encoders import read_results
from report.html.answer import answer
from report.html.page import render_in_notebook
from report.run import Run
from report.table import accuracy_table, trials_table
from report.warnings import without_result
from terminal import Terminal
from tune.predictions import columns, listed, ranked
from tune.request import DEFAULT, Request, chosen_models, encoder_keys, search
from tune.winners import Choice, check_choice, choose

if TYPE_CHECKING:
    from models.exported import Adapted


@dataclass(frozen=True)
class Winner:
    """A winner with its weights, to classify photos with."""

    cell: Cell
    seed: int
    weights: Path

    @cached_property
    def model(self) -> Adapted:
        """The adapted model, on the GPU if there is one; it is loaded at its first use."""
        from models.exported import load_adapted  # torch, which takes seconds to import

        return load_adapted(self.weights)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.model.classes

    def predict(
        self, images: str | Path | Iterable[str | Path], top: int = 1, batch: int = 64
    ) -> pd.DataFrame:
        """Return the `top` most probable classes of each image, and their probabilities.

        Args:
            images: files, and folders of images.
            top: how many classes; the further ones are in `label_2`, `probability_2` and so on.
            batch: images in memory at a time.

        Returns:
            One row for each image, with columns path, label and probability. An image that cannot
            be read has none, and a warning says why.

        Raises:
            InputError: a file or folder is missing, or a number is below 1.
        """
        if min(top, batch) < 1:
            raise InputError(f"top is {top} and batch {batch}; allowed: 1 or more")
        given = [images] if isinstance(images, str | Path) else images
        paths = listed([Path(image) for image in given], warnings.warn)
        rows: list[list[Any]] = []
        few = min(top, len(self.classes))
        for path, found in zip(paths, ranked(self.model, paths, top, batch), strict=True):
            if isinstance(found, UnreadableImageError):
                warnings.warn(str(found), stacklevel=2)
                rows.append([str(path), *[None] * (2 * few)])
            else:
                rows.append([str(path), *(value for pair in found.classes for value in pair)])
        return pd.DataFrame(rows, columns=["path", *columns(few)])


@dataclass(frozen=True)
class Results:
    """What a run has found, finished or not, as its files said when they were read."""

    run: Run

    @property
    def directory(self) -> Path:
        """Where the run lies."""
        return self.run.directory

    @cached_property
    def answer(self) -> str:
        """What to do, in two sentences."""
        return answer(self.run).text

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each cell, as in `accuracy_table.csv`; shots are texts such as 4shot."""
        return _with_names(accuracy_table(self.run))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row for each trial, as in `trials.csv`."""
        return _with_names(trials_table(self.run))

    @cached_property
    def winners(self) -> pd.DataFrame:
        """One row for each winner, with a column for each of its settings."""
        rows = [
            {
                "partition": cell.partition,
                "method": cell.method,
                "best": self.run.best.get(cell.partition) == cell.method,
                "val_accuracy": winner.val_accuracy,
                "trial": winner.trial,
                **winner.config,
            }
            for cell in self.run.cells()
            if (winner := self.run.winner(*cell))
        ]
        return _with_names(pd.DataFrame(rows, columns=None if rows else ["partition", "method"]))

    @property
    def missing(self) -> list[str]:
        """The cells without a result, and why."""
        return list(without_result(self.run))

    def best(
        self,
        partition: float | str | None = None,
        *,
        shots: int | None = None,
        method: str = BEST,
        seed: int = 0,
    ) -> Winner:
        """Return the winner of a row: of the method that validation chose, or of another.

        Args:
            partition: the table's row, in percent, or as `table` names it (`4shot`); without it and
                `shots`, the last with results.
            shots: the table's row, in images of each class.
            method: the table's column.
            seed: the final fit's.

        Raises:
            InputError: there is no such winner, or its weights were not kept.
        """
        row = _row(partition) if shots is None else Shots(shots)
        choice = Choice(row, method, seed)
        check_choice(self.directory, choice)
        chosen = choose(self.directory, choice)
        return Winner(chosen.cell, chosen.seed, chosen.weights)

    def __repr__(self) -> str:
        return f"{self.directory}: {self.answer}"

    def _repr_html_(self) -> str:
        return render_in_notebook(self.run, self.missing)


def load_run(path: str | Path) -> Results:
    """Read a run, finished or not.

    Raises:
        InputError: it is not a run's directory, or one of its files cannot be understood.
    """
    if not isinstance(path, str | Path):
        raise InputError(f"path: {shown(path)}; allowed: a run's directory")
    return Results(read_results(Path(path)))


def run_search(
    space: str | Path = DEFAULT,
    *,
    quick: bool = False,
    model: str | Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    partitions: Sequence[float] | None = None,
    shots: Sequence[int] | None = None,
    methods: Sequence[str] = (),
    trials: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    out: str | Path = "results",
    storage: str | None = None,
    resume: bool = False,
    time_budget: float | None = None,
    address: str | None = None,
    quiet: bool = False,
) -> Results:
    """Search as `run_search.py` does: the arguments are its options, and `settings` is `--set`.

    A Ray that runs in this process already is used, and stays; else one is started, and ended.

    Args:
        space: a source of images such as `folder:PATH`, or a YAML file.
        quick: a first answer, in `results/NAME-quick`.
        model: the encoder, such as `ViT-B-16:openai` or `local-dir:FOLDER`, or several.
        settings: values of keys of the YAML file, such as `{"final.seeds": 2}`.
        partitions: the table's rows, in percent of the training images.
        shots: the table's rows, in training images of each class.
        methods: only these.
        trials: of each cell.
        seed: of the search.
        name: of the run.
        out: folder of all runs.
        storage: path or URL where a copy of the run is kept.
        resume: continue or extend the run of this name; without one, start it.
        time_budget: seconds for everything.
        address: of a running Ray cluster.
        quiet: whether it prints nothing.

    Raises:
        InputError: what is asked for is wrong, a run of this name is there and `resume` is off, or
            the disk is full.
    """
    given: Any = time_budget
    is_time = isinstance(given, Real) and not isinstance(given, bool)
    if given is not None and not (is_time and given > 0):
        raise InputError(f"--time-budget: {shown(time_budget)}; allowed: seconds, more than 0")
    if not isinstance(settings or {}, Mapping):
        raise InputError(f"settings: {shown(settings)}; allowed: {{'KEY.PATH': VALUE}}")
    models = [model] if isinstance(model, str) else model
    request = Request(
        space=str(space),
        quick=quick,
        model=chosen_models([encoder_keys(each) for each in models]),
        settings=[f"{key}={_as_yaml(key, value)}" for key, value in (settings or {}).items()],
        partitions=None if partitions is None else _listed("partitions", partitions),
        shots=None if shots is None else _listed("shots", shots),
        methods=_listed("methods", methods),
        trials=trials,
        seed=seed,
        name=name,
        out=Path(out),
        storage=storage,
        resume=resume,
        time_budget=time_budget,
        address=address,
    )
    summary = search(request, Terminal(stderr=True, quiet=quiet))
    return load_run(summary.page.parent)


def _row(partition: float | str | None) -> Partition | None:
    try:
        return None if partition is None else parsed(partition)
    except (ValueError, TypeError):
        raise InputError(
            f"partition: {shown(partition)}; allowed: a percentage, or shots such as '4shot'"
        ) from None


def _listed(name: str, values: Any) -> list[Any]:
    """Return several values as a list; a text would be taken letter by letter."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        parts = [values]
        if isinstance(values, str):
            parts = [_number(each.strip()) for each in values.split(",")]
        raise InputError(f"{name}: {shown(values)}; allowed: a list, as in {name}={parts!r}")
    return [*values]


def _number(text: str) -> str | float:
    return int(text) if text.isdecimal() else text


def _as_yaml(key: str, value: Any) -> str:
    """Write a value as JSON, which YAML includes."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise InputError(
            f"settings: {key}: {shown(value)}; allowed: numbers, texts, lists and dictionaries"
        ) from None


def _with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Write shots as text; percentages stay numbers."""
    partitions = [named(p) if isinstance(p, Shots) else p for p in table["partition"]]
    return table.assign(partition=pd.Series(partitions, index=table.index, dtype=object))
