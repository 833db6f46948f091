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

    A label is empty where the probability is below `threshold`.
    """
    with replacing(out) as path, path.open("w", newline="", **_UTF8) as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns(top)])

        def write(image: Ranked) -> None:
            first = [_decided(image, threshold) or "", *(name for name, _ in image.classes[1:])]
            pairs = zip(first, image.classes, strict=True)
            cells = [text for label, (_, p) in pairs for text in (cell(label), f"{p:.4f}")]
            rows.writerow([cell(str(image.path)), *cells])

        yield write


@contextmanager
def table_writer(
    console: Console, classes: Sequence[str], top: int, threshold: float
) -> Iterator[Write]:
    """Yield what prints a row of a table."""
    longest = max(cell_len(one_line(name, WIDEST)) for name in (*classes, UNSURE, "label_2"))

    def line(texts: Sequence[str]) -> str:
        widths = [longest, len("probability_2")] * (len(texts) // 2)
        padded = (t + " " * (w - cell_len(t)) for t, w in zip(texts, widths, strict=False))
        return "  ".join([*padded, texts[-1]])

    say(console, line([*columns(top), "path"]))

    def write(image: Ranked) -> None:
        others = [name for name, _ in image.classes[1:]]
        labels = [_decided(image, threshold) or UNSURE, *others]
        pairs = zip(labels, image.classes, strict=True)
        cells = [text for label, (_, p) in pairs for text in (one_line(label, WIDEST), f"{p:.4f}")]
        say(console, line([*cells, str(image.path)]))

    yield write


_UTF8: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}


def _decided(image: Ranked, threshold: float) -> str | None:
    label, probability = image.classes[0]
    return label if probability >= threshold else None
