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


def read_table(
    path: Path,
    columns: Sequence[str],
    numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> pd.DataFrame:
    """Read these columns of a CSV file, as text but for `numbers`; without the file, no rows.

    Where a file lacks a column that is `optional`, its cells are empty.

    Raises:
        InputError: the file lacks a column, or holds other things where numbers belong.
    """
    if not path.exists():
        return pd.DataFrame(columns=[*columns, *optional])
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table: {error}") from error
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} lacks the column {', '.join(missing)}")
    try:
        found = table.reindex(columns=[*columns, *optional], fill_value="")
        return found.astype(dict.fromkeys(numbers, float))
    except ValueError as error:
        raise InputError(f"{path}: {', '.join(numbers)} must be numbers: {error}") from error


def read_test_images(
    path: Path,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
    """Return the class and the group of every test image, by set, in the order of the predictions.

    Groups are numbers from 0 without a gap; of a set whose images have none, there are none.

    Raises:
        InputError: the file is ill-formed, or has groups for some images of a set alone.
    """
    table = read_table(path, TEST_IMAGES, numbers=["label"], optional=["group"])
    labels, groups = {}, {}
    for name, images in table.groupby("set", sort=False):
        labels[str(name)] = images["label"].to_numpy(dtype=np.int64)
        named = images["group"] != ""
        if named.all():
            groups[str(name)] = pd.factorize(images["group"])[0].astype(np.int64)
        elif named.any():
            raise InputError(f"{path} has a group for some images of {name} and none for others")
    return labels, groups
