"""The rows of a table for few images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import Dataset, Split
from data.amounts import PERCENTAGES, different_amounts, sensible_amounts, three_of
from data.sources import FileSource
from data.splits import partition_rows
from partitions import Partition, Shots


@pytest.mark.parametrize(
    ("images", "classes", "rows"),
    [
        (989, 10, PERCENTAGES),
        (1070, 22, (Shots(1), Shots(2), Shots(4), *PERCENTAGES[1:])),
        (100, 22, (Shots(1), Shots(2), 50, 60, 70, 80, 90, 100)),
        (22, 22, (100,)),
    ],
)
def test_shots_stand_where_a_percentage_lacks_classes(
    images: int, classes: int, rows: tuple[Partition, ...]
) -> None:
    assert sensible_amounts(images, classes) == rows


def size(amount: Partition, images: int, classes: int) -> int:
    if isinstance(amount, Shots):
        return amount.number * classes
    return max(classes, round(amount / 100 * images))


@given(st.integers(2, 300), st.integers(0, 5000))
def test_rows_grow_and_end_with_all_images(classes: int, more: int) -> None:
    images = classes + more
    rows = sensible_amounts(images, classes)
    sizes = [size(row, images, classes) for row in rows]
    assert sizes[0] >= classes
    assert sizes[-1] == images
    assert all(a < b for a, b in pairwise(sizes))
    few = three_of(rows)
    assert 1 <= len(few) <= 3
    assert (few[0], few[-1]) == (rows[0], rows[-1])
    assert set(few) <= set(rows)


def dataset(labels: list[int], groups: list[str] | None = None) -> Dataset:
    split = Split(
        tuple(map(str, range(len(labels)))),
        np.array(labels),
        None if groups is None else tuple(groups),
    )
    return Dataset(("a", "b"), ("a", "b"), split, split, FileSource, {}, ())  # type: ignore[arg-type]


def test_rows_of_the_same_images_are_one() -> None:
    bursts = dataset([0, 1] * 10, [f"{label}{n // 5}" for n in range(10) for label in "ab"])
    kept = different_amounts(sensible_amounts(20, 2), bursts, seed=0)
    train = bursts.train
    sizes = [len(partition_rows(train.labels, train.group_ids, row, 0)) for row in kept]
    assert sizes == [10, 15, 20]
    assert kept[-1] == 100
