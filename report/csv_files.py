"""The tables that the driver may leave in a run's directory, read; a missing one is empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from errors import InputError

SKIPPED = ("split", "key", "reason")
TEST_IMAGES = ("set", "key", "label")
IMPORTANCE = ("partition", "method", "parameter", "importance", "trials")
DUPLICATES = ("kind", "split_a", "key_a", "split_b", "key_b")


def read_table(path: Path, columns: Sequence[str], numbers: Sequence[str] = ()) -> pd.DataFrame:
    """Read these columns of a CSV file, as text but for `numbers`; without the file, no rows.

    Raises:
        InputError: the file lacks a column, or holds other things where numbers belong.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table: {error}") from error
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} lacks the column {', '.join(missing)}")
    try:
        return table[list(columns)].astype(dict.fromkeys(numbers, float))
    except ValueError as error:
        raise InputError(f"{path}: {', '.join(numbers)} must be numbers: {error}") from error


def read_test_labels(path: Path) -> dict[str, NDArray[np.int64]]:
    """Return the class of every test image, by set, in the order of the predictions."""
    table = read_table(path, TEST_IMAGES, numbers=["label"])
    by_set = table.groupby("set", sort=False)["label"]
    return {str(name): labels.to_numpy(dtype=np.int64) for name, labels in by_set}
