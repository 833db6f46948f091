"""How `predict` writes what it found: a CSV file, or a table on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from errors import one_line
from files import replacing
from terminal import say
from text import cell
from tune.predictions import Ranked, columns

UNSURE = "unsure"
WIDEST = 30  # characters of a label in a column of a terminal
Write = Callable[[Ranked], None]


@contextmanager
def csv_writer(out: Path, top: int, threshold: float) -> Iterator[Write]:
    """Yield what writes a row to a CSV file, which is there once the block has succeeded.

    With a `threshold`, a last column says `unsure` where the probability is lower.
    """
    marks = [UNSURE] if threshold else []
    with replacing(out) as path, path.open("w", newline="", **_UTF8) as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns(top), *marks])

        def write(image: Ranked) -> None:
            cells = [text for name, p in image.classes for text in (cell(name), f"{p:.4f}")]
            unsure = [UNSURE if _is_unsure(image, threshold) else "" for _ in marks]
            rows.writerow([cell(str(image.path)), *cells, *unsure])

        yield write


@contextmanager
def table_writer(
    console: Console, classes: Sequence[str], top: int, threshold: float
) -> Iterator[Write]:
    """Yield what prints a row of a table."""
    longest = 1 + max(cell_len(one_line(name, WIDEST)) for name in (*classes, "label_2"))

    def line(texts: Sequence[str]) -> str:
        widths = [longest, len("probability_2")] * (len(texts) // 2)
        padded = (t + " " * (w - cell_len(t)) for t, w in zip(texts, widths, strict=False))
        return "  ".join([*padded, texts[-1]])

    say(console, line([*columns(top), "path"]))

    def write(image: Ranked) -> None:
        cells = [t for name, p in image.classes for t in (one_line(name, WIDEST), f"{p:.4f}")]
        cells[0] += "?" * _is_unsure(image, threshold)
        say(console, line([*cells, str(image.path)]))

    yield write


_UTF8: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}


def _is_unsure(image: Ranked, threshold: float) -> bool:
    return image.classes[0][1] < threshold
