"""The `csv:PATH` source: a table of image paths and labels, in CSV, TSV or Parquet."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from data.sources.base import SPLIT_NAMES, FileSource, Listing, SourceKind, SplitName
from errors import InputError, one_line
from files import expanded, is_url

if TYPE_CHECKING:
    import pandas as pd

    from data.config import ColumnNames, SourceConfig

LOOKED_UP = 1000  # files of a table: each costs a moment on a file system of other machines
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
SPREADSHEETS = frozenset((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"))
_MORE_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


class CsvTable(SourceKind):
    """A CSV, TSV (.tsv) or Parquet (.parquet) file with one row for each image.

    Image paths lie below `root`, by default the table's own folder, and are relative to it or
    absolute. A table may come from a stranger, so only the user can allow files elsewhere, by
    naming another `root`. Links below `root` are followed. Cells are text as written: the label
    `NA` is a label. The listing counts missing files, and reading one fails.
    """

    takes_root = True

    def check(self, config: SourceConfig) -> None:
        """Raise InputError if the table cannot be read, or its root is no folder."""
        if config.path.suffix.lower() in SPREADSHEETS:
            raise InputError(f"source: {config.path!s:.200} is a spreadsheet; save it as CSV UTF-8")
        try:
            with config.path.open("rb"):
                pass
        except OSError as error:
            raise InputError(
                f"source: cannot read {config.path!s:.200} ({error.strerror})"
            ) from error
        if not os.path.isdir(folder := _root(config)):
            raise InputError(f"root: no folder {folder!s:.200}")

    def list_images(self, config: SourceConfig) -> Listing:
        """List every row of the table."""
        self.check(config)
        path, columns, folder = config.path, config.columns, _root(config)
        table = _read_table(path, columns)
        written = _column(path, table, columns.path)
        _refuse_other_paths(path, folder, written)
        # Relative ones stay what they are when table and images move.
        keys = [
            (p.relative_to(folder) if p.is_relative_to(folder) else p).as_posix()
            for p in map(PurePath, written)
        ]
        unread = _unread_columns(path, table, columns)
        named = _optional_column(path, table, columns, "split")
        splits = _splits(path, columns.split, named or ["train"] * len(keys))
        groups = _optional_column(path, table, columns, "group")
        labels = _column(path, table, columns.label)
        others = {columns.label: labels, **({columns.split: named} if named else {})}
        _refuse_duplicates(path, folder, keys, others)
        return Listing(
            source=FileSource(folder),
            keys=tuple(keys),
            labels=tuple(labels),
            splits=tuple(splits),
            groups=None if groups is None else tuple(groups),
            passed_over=(*_unread_line(unread), *_missing(folder, keys)),
        )


def _unread_line(unread: list[str]) -> Iterator[str]:
    if unread:
        yield f"columns passed over: {', '.join(unread)}"


def _missing(folder: Path, keys: list[str]) -> Iterator[str]:
    """Look up some of the files, evenly spread, and say how many are missing."""
    looked_up = keys[:: len(keys) // LOOKED_UP + 1]
    if missing := [key for key in looked_up if not os.path.isfile(folder / key)]:
        of = "files" if len(looked_up) == len(keys) else "files looked up"
        yield (
            f"{len(missing)} of {len(looked_up)} {of} are missing, such as {missing[0]!r:.200}; "
            f"paths start at {folder}"
        )


def _root(config: SourceConfig) -> Path:
    """Return the folder that image paths lie below."""
    return config.path.parent if config.root is None else expanded(config.root, "root").absolute()


def _read_table(path: Path, columns: ColumnNames) -> pd.DataFrame:
    if path.suffix.lower() == ".parquet":
        table = _read_parquet(
            path, [getattr(columns, field) for field in type(columns).model_fields]
        )
        _check_columns(path, list(table.columns), columns)
    else:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        rows = _read_rows(path, separator)
        header = [str(cell).strip() for cell in rows.iloc[0]]
        _check_separator(path, header, separator)
        _check_columns(path, header, columns)
        table = rows.iloc[1:].set_axis(header, axis=1)
    if table.empty:
        raise InputError(f"source: {path} has no rows below its header")
    return table


def _read_parquet(path: Path, used: Sequence[str]) -> pd.DataFrame:
    """Read a Parquet file's cells as text; those without a value are empty.

    Raises:
        InputError: it is none, or a column that is used holds neither text nor numbers.
    """
    import pandas as pd
    from pyarrow import ArrowException

    try:
        table = pd.read_parquet(path).astype(object)
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"source: {path} is not a Parquet file ({one_line(error)})") from error
    table = table.set_axis([str(name).strip() for name in table.columns], axis=1)
    for name in used if table.columns.is_unique else ():  # else that is said
        for cell in table.get(name, ()):
            if isinstance(cell, bytes) or not pd.api.types.is_scalar(cell):
                raise InputError(
                    f"source: {path}: column {name!r} holds values of the type "
                    f"{type(cell).__name__}; allowed: text and numbers (images by their paths)"
                )
    return table.where(table.notna(), "").map(str)


def _read_rows(path: Path, separator: str) -> pd.DataFrame:
    """Read a CSV file's cells as text, the header as its first row."""
    import pandas as pd  # half a second to import, and needed by this source alone

    try:
        # The header is read as a row: pandas would rename columns, or take the first for an index.
        return pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            header=None,
            keep_default_na=False,
            na_filter=False,
            encoding="utf-8-sig",
        )
    except ValueError as error:  # pandas' parser errors, and text that is not UTF-8
        reason = str(error).strip().splitlines()[0]
        if found := _MORE_CELLS.search(reason):
            header, line, cells = found.groups()
            raise InputError(
                f"source: {path}, line {line}: {cells} cells, but the header has {header}; a cell "
                f"that holds a {'comma' if separator == ',' else 'tab'} needs quotes"
            ) from error
        if isinstance(error, UnicodeError):
            reason = "it is not UTF-8 text; save it as CSV UTF-8"
        kind = "CSV" if separator == "," else "TSV"
        raise InputError(f"source: {path} is not a {kind} file ({reason})") from error


def _check_separator(path: Path, header: list[str], separator: str) -> None:
    """Raise InputError if one column looks like several between other separators."""
    for other, name in SEPARATORS.items():
        if len(header) == 1 and other != separator and other in header[0]:
            raise InputError(
                f"source: {path} separates its columns by {name}; allowed are "
                f"{SEPARATORS[separator]}"
            )


def _check_columns(path: Path, header: list[str], columns: ColumnNames) -> None:
    """Raise InputError if a column that is read stands twice."""
    for name in columns.model_dump().values():
        if header.count(name) > 1:
            raise InputError(f"columns: {path} has {header.count(name)} columns {name!r}; keep one")


def _unread_columns(path: Path, table: pd.DataFrame, columns: ColumnNames) -> list[str]:
    """List the columns that are not read; refuse one that looks like a split or a group."""
    names = columns.model_dump()
    unread = [str(name) for name in table.columns if name not in names.values()]
    for field in ("split", "group"):
        near = difflib.get_close_matches(field, [name.casefold() for name in unread], 1, 0.8)
        if near and names[field] == field and field not in table.columns:
            (found,) = (name for name in unread if name.casefold() == near[0])
            raise InputError(
                f"columns: {path} has no column {field!r}, but {found!r}, which is not read; name "
                f"it by columns.{field}, or call it something else"
            )
    return unread


def _optional_column(
    path: Path, table: pd.DataFrame, columns: ColumnNames, field: str
) -> list[str] | None:
    """The cells of a column; None if it is absent and the user did not name it."""
    name = getattr(columns, field)
    if name not in table.columns and name == type(columns).model_fields[field].default:
        return None
    return _column(path, table, name)


def _column(path: Path, table: pd.DataFrame, name: str) -> list[str]:
    if name not in table.columns:
        present = ", ".join(map(str, table.columns))
        raise InputError(f"columns: {path} has no column {name!r}; it has {present}")
    cells = [str(cell).strip() for cell in table[name]]
    for row, cell in enumerate(cells, start=1):
        if not cell:
            raise InputError(f"source: {path}, row {row} below the header: empty {name!r}")
    return cells


def _splits(path: Path, name: str, cells: list[str]) -> list[SplitName]:
    splits: list[SplitName] = []
    for row, cell in enumerate(cells, start=1):
        if cell.lower() not in SPLIT_NAMES:
            raise InputError(
                f"source: {path}, row {row} below the header: "
                f"unknown {name!r} {cell!r}; allowed: train, val, test"
            )
        splits.append(SPLIT_NAMES[cell.lower()])
    return splits


def _refuse_other_paths(path: Path, folder: Path, paths: list[str]) -> None:
    """Raise InputError at the first path that is a URL, another system's, or outside `folder`."""
    root = os.path.normpath(folder)
    for row, name in enumerate(paths, start=1):
        where = f"source: {path}, row {row} below the header: {name!r}"
        if is_url(name):
            raise InputError(
                f"{where} is a URL; download the images, and name files, such as photos/cat.jpg"
            )
        if "\\" in name and not os.path.lexists(folder / name):
            raise InputError(
                f"{where} has backslashes and is no file; write slashes, as in photos/cat.jpg"
            )
        if not PurePath(os.path.normpath(folder / name)).is_relative_to(root):
            raise InputError(
                f"{where} is outside {root}; if it is meant, set root to a folder above it"
            )


def _refuse_duplicates(
    path: Path, folder: Path, keys: list[str], others: Mapping[str, list[str]]
) -> None:
    first: dict[str, int] = {}
    for row, key in enumerate(keys, start=1):
        place = os.path.normpath(folder / key)
        if place in first:
            before = first[place]
            differ = [name for name, cells in others.items() if cells[before - 1] != cells[row - 1]]
            raise InputError(
                f"source: {path} lists {key!r} twice, in rows {before} and {row} below the header"
                + (f", with two values of {' and '.join(differ)}" if differ else "")
            )
        first[place] = row
