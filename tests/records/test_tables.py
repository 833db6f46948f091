"""Tables are read as they were written, and a missing one has no rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import InputError
from records import (
    DUPLICATES,
    IMPORTANCE,
    LABEL_ISSUES,
    SKIPPED,
    TEST_IMAGES,
    LabelIssue,
    ListedImage,
    read_test_images,
)
from records.tables import Table

IMAGES = [
    ListedImage("test", 'a, "b".png', 1, ""),
    ListedImage("test", "two\nlines.png", 0, ""),
    ListedImage("wild", "ü.png", 1, ""),
]


@pytest.mark.parametrize("table", [DUPLICATES, IMPORTANCE, SKIPPED, TEST_IMAGES])
def test_a_missing_table_has_its_columns_and_no_rows(table: Table, tmp_path: Path) -> None:
    found = table.read(tmp_path)
    assert [*found.columns] == [*table.columns, *table.optional]
    assert len(found) == 0


def test_what_is_written_is_read(tmp_path: Path) -> None:
    TEST_IMAGES.write(tmp_path, IMAGES)
    found = TEST_IMAGES.read(tmp_path)
    assert [*found.itertuples(index=False, name=None)] == IMAGES
    assert [path.name for path in tmp_path.iterdir()] == ["test_images.csv"]


def test_an_optional_column_is_written_where_a_row_has_a_value(tmp_path: Path) -> None:
    TEST_IMAGES.write(tmp_path, IMAGES)
    assert (tmp_path / "test_images.csv").read_text().splitlines()[0] == "set,key,label"
    grouped = [image._replace(group="x") if image.set == "test" else image for image in IMAGES]
    TEST_IMAGES.write(tmp_path, grouped)
    assert (tmp_path / "test_images.csv").read_text().splitlines()[0] == "set,key,label,group"
    assert [*TEST_IMAGES.read(tmp_path)["group"]] == ["x", "x", ""]


def test_no_rows_remove_the_file(tmp_path: Path) -> None:
    TEST_IMAGES.write(tmp_path, IMAGES)
    TEST_IMAGES.write(tmp_path, [])
    assert [*tmp_path.iterdir()] == []


def test_a_table_that_is_always_written_says_that_somebody_looked(tmp_path: Path) -> None:
    LABEL_ISSUES.write(tmp_path, [])
    assert (tmp_path / LABEL_ISSUES.file).read_text().splitlines() == [
        "split,key,label,suggested,given_probability,suggested_probability"
    ]
    assert len(LABEL_ISSUES.read(tmp_path)) == 0
    issue = LabelIssue("test", "a|b.png", "=1", "c", 0.25, 0.5)
    LABEL_ISSUES.write(tmp_path, [issue])
    assert [*LABEL_ISSUES.read(tmp_path).itertuples(index=False, name=None)] == [issue]


def test_test_images_are_read_by_set_in_their_order(tmp_path: Path) -> None:
    grouped = [image._replace(group="b7") if image.set == "test" else image for image in IMAGES]
    TEST_IMAGES.write(tmp_path, [*grouped, ListedImage("test", "c.png", 2, "a3")])
    labels, groups = read_test_images(tmp_path)
    assert {name: [*found] for name, found in labels.items()} == {"test": [1, 0, 2], "wild": [1]}
    assert {name: [*found] for name, found in groups.items()} == {"test": [0, 0, 1]}


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / SKIPPED.file).write_text("split,key\ntrain,a.png\n")
    with pytest.raises(InputError, match=r"skipped_images\.csv lacks the column reason"):
        SKIPPED.read(tmp_path)
    (tmp_path / IMPORTANCE.file).write_text(
        "partition,method,parameter,importance,trials\n1,a,b,c,9"
    )
    with pytest.raises(InputError, match=r"importance\.csv: importance, trials must be numbers"):
        IMPORTANCE.read(tmp_path)
