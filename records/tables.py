"""The tables that a run leaves as CSV files: their names, their columns, and how to read them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from errors import InputError
from files import replacing
from partitions import Partition
from text import cell, cell_text

if TYPE_CHECKING:  # pandas takes half a second to import, and mistakes are reported without it
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """A kind of table, by its file in a run's directory; texts are written as `text.cell` does.

    Attributes:
        numbers: the columns that are read as numbers; the others are text.
        optional: further columns at the right, which are written if a row has a value in them and
            are read as empty text if they are missing.
        always: whether it is written without rows, too. That it is there says that somebody looked.
    """

    file: str
    columns: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    always: bool = False

    def write(self, run_dir: Path, rows: Iterable[object]) -> None:
        """Write rows, which have an attribute for each column.

        Without rows the file is removed, or holds its columns alone if it is `always` written.
        """
        found, target = list(rows), run_dir / self.file
        if not found and not self.always:
            target.unlink(missing_ok=True)
            return
        kept = [name for name in self.optional if any(getattr(row, name) != "" for row in found)]
        columns = [*self.columns, *kept]
        with replacing(target) as path, path.open("w", newline="", encoding="utf-8") as file:
            lines = ((getattr(row, name) for name in columns) for row in found)
            cells = ([cell(v) if isinstance(v, str) else v for v in line] for line in lines)
            csv.writer(file).writerows([columns, *cells])

    def read(self, run_dir: Path) -> pd.DataFrame:
        """Read the table of a run; without the file, no rows.

        Raises:
            InputError: the file lacks a column, or holds other things where numbers belong.
        """
        import pandas as pd

        path, columns = run_dir / self.file, [*self.columns, *self.optional]
        if not path.exists():
            return pd.DataFrame(columns=columns)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is no table: {error}") from error
        if missing := [column for column in self.columns if column not in table]:
            raise InputError(f"{path} lacks the column {', '.join(missing)}")
        try:
            found = table.reindex(columns=columns, fill_value="")
            texts = [name for name in columns if name not in self.numbers]
            found[texts] = found[texts].map(cell_text)
            return found.astype(dict.fromkeys(self.numbers, float))
        except ValueError as error:
            numbers = ", ".join(self.numbers)
            raise InputError(f"{path}: {numbers} must be numbers: {error}") from error


class ListedImage(NamedTuple):
    """A row of `test_images.csv`; the group is empty where its set has no groups."""

    set: str
    key: str
    label: int
    group: str
    class_name: str = ""


class LabelIssue(NamedTuple):
    """A row of `label_issues.csv`: an image whose label is probably wrong, and a likelier class.

    The probabilities are those of both classes, by probes that were not trained on the image.
    """

    split: str
    key: str
    label: str
    suggested: str
    given_probability: float
    suggested_probability: float


class ClassCount(NamedTuple):
    """A row of `classes.csv`: the images of a class that could be used, by split."""

    label: str
    train: int
    val: int
    test: int


class AccuracyRow(NamedTuple):
    """A row of `accuracy_table.csv`: a cell. Every further test set adds two columns."""

    partition: Partition
    method: str
    n_train: int | None
    n_val: int | None
    val_accuracy: float | None
    test_accuracy: float | None
    test_ci95: float | None
    seeds: int
    trials: int
    trials_stopped_early: int
    config: str | None
    test_ci95_seeds: float | None
    test_ci95_images: float | None
    search_seconds: float
    final_seconds: float
    saved_seconds: float
    alpha: float | None
    ema: float | None
    best: bool


class TrialRow(NamedTuple):
    """A row of `trials.csv`."""

    partition: Partition
    method: str
    trial: int
    status: str
    samples: int
    val_accuracy: float
    val_loss: float
    seconds: float
    origin: str
    reason: str
    config: str


ACCURACY = Table("accuracy_table.csv", AccuracyRow._fields)
TRIALS = Table("trials.csv", TrialRow._fields)
GRADIENTS = Table("gradients.csv", ("partition", "method", "layer_group", "kind", "norm"))
IMPORTANCE = Table(
    "importance.csv",
    ("partition", "method", "parameter", "importance", "trials"),
    numbers=("importance", "trials"),
)
DUPLICATES = Table(
    "duplicates.csv",
    ("kind", "split_a", "key_a", "split_b", "key_b"),
    optional=("class_a", "class_b"),
    always=True,
)
SKIPPED = Table("skipped_images.csv", ("split", "key", "reason"))
TEST_IMAGES = Table(
    "test_images.csv",
    ListedImage._fields[:3],
    numbers=("label",),
    optional=ListedImage._fields[3:],
)
LABEL_ISSUES = Table(
    "label_issues.csv", LabelIssue._fields, numbers=LabelIssue._fields[4:], always=True
)
CLASSES = Table("classes.csv", ClassCount._fields, numbers=ClassCount._fields[1:])

TABLES = (
    *(ACCURACY, TRIALS, GRADIENTS, IMPORTANCE, DUPLICATES, SKIPPED, TEST_IMAGES),
    *(LABEL_ISSUES, CLASSES),
)


def set_columns(test_set: str) -> tuple[str, str]:
    """Name the columns of `accuracy_table.csv` for a test set: its accuracy and interval."""
    return f"{test_set}_accuracy", f"{test_set}_ci95"


def read_test_images(
    run_dir: Path,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Return the class and the group of every test image, by set.

    Groups are numbered from 0 without a gap; a set whose images have no groups has no entry.

    Raises:
        InputError: the file is ill-formed, or has groups for some images of a set alone.
    """
    import numpy as np
    import pandas as pd

    labels, groups = {}, {}
    for name, images in TEST_IMAGES.read(run_dir).groupby("set", sort=False):
        labels[str(name)] = images["label"].to_numpy(dtype=np.int64)
        named = images["group"] != ""
        if named.all():
            groups[str(name)] = pd.factorize(images["group"])[0].astype(np.int64)
        elif named.any():
            path = run_dir / TEST_IMAGES.file
            raise InputError(f"{path} has a group for some images of {name} and none for others")
    return labels, groups
