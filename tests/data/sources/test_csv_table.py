from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from data import SourceConfig
from data.config import ColumnNames
from data.sources import SOURCES, FileSource, Listing
from errors import InputError


def listing(
    folder: Path, text: str, root: Path | None = None, columns: ColumnNames | None = None
) -> Listing:
    (folder / "images.csv").write_text(text)
    source = f"csv:{folder / 'images.csv'}"
    config = SourceConfig(source=source, root=root, columns=columns or ColumnNames())
    return SOURCES["csv"].list_images(config)


def test_labels_are_text_as_written(tmp_path: Path) -> None:
    found = listing(tmp_path, 'path,label\na.jpg,NA\nb.jpg,01\n"c,d.jpg",null\n')
    assert found.labels == ("NA", "01", "null")
    assert found.keys == ("a.jpg", "b.jpg", "c,d.jpg")
    assert found.splits == ("train",) * 3
    assert found.groups is None


def test_splits_and_groups_are_read(tmp_path: Path) -> None:
    found = listing(tmp_path, "path,label,split,group\na,x,train,1\nb,x,Validation,2\nc,x,test,1\n")
    assert found.splits == ("train", "val", "test")
    assert found.groups == ("1", "2", "1")


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    columns = ColumnNames(path="file", label="coarse", split="fold", group="shop")
    found = listing(tmp_path, "file,coarse,fold,shop\na,x,test,s\n", columns=columns)
    assert (found.keys, found.labels, found.splits, found.groups) == (
        ("a",),
        ("x",),
        ("test",),
        ("s",),
    )


def test_paths_start_at_the_table_or_at_the_root(tmp_path: Path) -> None:
    text = "path,label\na.jpg,x\n"
    (tmp_path / "photos").mkdir()
    assert listing(tmp_path, text).source == FileSource(tmp_path)
    assert listing(tmp_path, text, tmp_path / "photos").source == FileSource(tmp_path / "photos")
    with pytest.raises(InputError, match=r"^root: no folder"):
        listing(tmp_path, text, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,x\nb,\n", "row 2 below the header: empty 'label'"),
        ("path,label\n,x\n", "row 1 below the header: empty 'path'"),
        ("path,label,split\na,x,spare\n", "unknown 'split' 'spare'; allowed: train, val, test"),
        ("path,label,group\na,x,g\nb,x,\n", "row 2 below the header: empty 'group'"),
        ("path,class\na,x\n", "no column 'label'; it has path, class"),
        ("path,label\na,x\nb,y\n./a,x\n", "lists 'a' twice, in rows 1 and 3"),
        ("path,label\nx/../a,x\nb,y\na,z\n", "lists 'a' twice, in rows 1 and 3"),
        ("path\tlabel\na\tx\n", "separates its columns by tabs; allowed are commas"),
        ("path;label\na;x\n", "separates its columns by semicolons; allowed are commas"),
        ("path,label,label\na,x,y\n", "has 2 columns 'label'; keep one"),
        ("path,label, label\na,x,y\n", "has 2 columns 'label'; keep one"),
        ("path,label\nextra,a,x\nextra,b,y\n", "line 2: 3 cells, but the header has 2; a cell"),
        ("path,label\na,x\nb,y,\n", "line 3: 3 cells, but the header has 2; a cell"),
        ("path,label\ncat\\a.jpg,x\n", "has backslashes and is no file; write slashes, as in"),
        ("path,label\nhttps://x.org/a.jpg,x\n", "'https://x.org/a.jpg' is a URL; download"),
        ("path,label\n", "no rows below its header"),
        ("", "not a CSV file"),
        ('path,label\n"a,x\n', "not a CSV file"),
    ],
)
def test_ill_formed_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        listing(tmp_path, text)
    assert "\n" not in str(error.value)


def test_blanks_around_headers_count_as_little_as_around_cells(tmp_path: Path) -> None:
    found = listing(tmp_path, "path, label, split\na.jpg, x, dev\n")
    assert (found.keys, found.labels, found.splits) == (("a.jpg",), ("x",), ("val",))


def test_a_file_may_have_a_backslash_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a\\b.jpg").touch()
    assert listing(tmp_path, "path,label\na\\b.jpg,x\n").keys == ("a\\b.jpg",)


@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_a_place_is_a_path_of_sensible_length(kind: str) -> None:
    for place, message in (("https://x.org/a.csv", "is a URL; download it"), ("x" * 5000, "xxx")):
        with pytest.raises(InputError, match=message) as error:
            SOURCES[kind].list_images(SourceConfig(source=f"{kind}:{place}"))
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("outside", ["/etc/passwd", "../b.jpg", "x/../../b.jpg", "..", "x/../.."])
def test_paths_outside_the_root_are_refused(tmp_path: Path, outside: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    text = f"path,label\na.jpg,x\n{outside},x\n"
    with pytest.raises(InputError, match=r"row 2 below the header: .* is outside .*; if"):
        listing(folder, text)
    assert listing(folder, text, Path("/")).source == FileSource(Path("/"))


def test_absolute_paths_below_the_root_are_taken(tmp_path: Path) -> None:
    """Their names are those below the root, so that a table that moved lists the same images."""
    for name in ("x/../a.jpg", "b c/a.jpg"):
        inside = (tmp_path / name).as_posix()
        assert listing(tmp_path, f"path,label\n{inside},x\n").keys == (name,)


def test_links_below_the_root_are_followed(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "store.jpg").write_bytes(b"content")
    (tmp_path / "photos" / "a.jpg").symlink_to(tmp_path / "store.jpg")
    found = listing(tmp_path / "photos", "path,label\na.jpg,x\n")
    assert found.source.digest("a.jpg") == FileSource(tmp_path).digest("store.jpg")


@pytest.mark.parametrize("field", ["split", "group"])
def test_a_column_that_the_user_named_must_be_there(tmp_path: Path, field: str) -> None:
    columns = ColumnNames.model_validate({field: "fold"})
    with pytest.raises(InputError, match="no column 'fold'; it has path, label"):
        listing(tmp_path, "path,label\na,x\n", columns=columns)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0" * 9)
    for name, message in (("image.csv", "not a CSV file"), ("none.csv", "No such file")):
        with pytest.raises(InputError, match=message):
            SOURCES["csv"].list_images(SourceConfig(source=f"csv:{tmp_path / name}"))


@pytest.mark.parametrize("name", ["splits", "Split", "groups", "GROUP"])
def test_a_column_that_looks_like_split_or_group_is_not_passed_over(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError) as error:
        listing(tmp_path, f"path,label,{name}\n1.png,a,train\n2.png,b,test\n")
    field = "group" if "g" in name.lower() else "split"
    assert f"no column '{field}', but '{name}', which is not read" in str(error.value)


def test_columns_that_are_not_read_are_told(tmp_path: Path) -> None:
    found = listing(tmp_path, "path,label,camera,fold\n1.png,a,x,1\n2.png,b,y,2\n")
    assert found.passed_over[0] == "columns passed over: camera, fold"


def test_missing_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / "2.png").mkdir()
    found = listing(tmp_path, "path,label\n1.png,a\n2.png,b\n")
    said = f"1 of 2 files are missing, such as '2.png'; paths start at {tmp_path}"
    assert found.passed_over == (said,)
    rows = "".join(f"{i}.png,a\n" for i in range(2500))
    (said,) = listing(tmp_path, f"path,label\n{rows}").passed_over
    assert said.startswith("834 of 834 files looked up are missing, such as '0.png'")


def test_tabs_separate_the_columns_of_a_tsv(tmp_path: Path) -> None:
    path = tmp_path / "images.tsv"
    path.write_text("path\tlabel\na,b.jpg\tNA\n")
    found = SOURCES["csv"].list_images(SourceConfig(source=f"csv:{path}"))
    assert (found.keys, found.labels) == (("a,b.jpg",), ("NA",))
    path.write_text("path,label\na.jpg,x\n")
    with pytest.raises(InputError, match="separates its columns by commas; allowed are tabs"):
        SOURCES["csv"].list_images(SourceConfig(source=f"csv:{path}"))


def test_cells_of_a_parquet_file_are_text(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    pd.DataFrame(
        {"path": ["a.jpg", "b.jpg"], "label": [7, 10], "split": ["train", "test"]}
    ).to_parquet(path)
    found = SOURCES["csv"].list_images(SourceConfig(source=f"csv:{path}"))
    assert (found.labels, found.splits) == (("7", "10"), ("train", "test"))
    for cells, kind in (([b"\x89PNG", b"x"], "bytes"), ([["x"], ["y"]], "ndarray")):
        pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": cells}).to_parquet(path)
        with pytest.raises(InputError, match=f"column 'label' holds values of the type {kind}; "):
            SOURCES["csv"].list_images(SourceConfig(source=f"csv:{path}"))
    pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["x", None]}).to_parquet(path)
    with pytest.raises(InputError, match="row 2 below the header: empty 'label'"):
        SOURCES["csv"].list_images(SourceConfig(source=f"csv:{path}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("images.xlsx", "images.xlsx is a spreadsheet; save it as CSV UTF-8"),
        ("images.parquet", "images.parquet is not a Parquet file"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=message):
        SOURCES["csv"].list_images(SourceConfig(source=f"csv:{tmp_path / name}"))
