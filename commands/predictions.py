"""Images in, the most probable classes of each out, as many at a time as a batch holds."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psutil import cpu_count
from rich.cells import cell_len
from rich.console import Console

from data import FileSource, UnreadableImageError
from errors import one_line
from files import replacing
from terminal import say
from text import cell

if TYPE_CHECKING:
    from models.exported import Adapted

AHEAD = 2  # batches that are decoded while the model is busy
UNSURE = "unsure"
WIDEST = 30  # characters of a label in a column of a terminal


class Ranked(NamedTuple):
    """An image's most probable classes, first the most probable, as (label, probability)."""

    path: Path
    classes: list[tuple[str, float]]


Write = Callable[[Ranked], None]


def ranked(
    model: Adapted, paths: Sequence[Path], top: int, batch: int
) -> Iterator[Ranked | UnreadableImageError]:
    """Yield the `top` most probable classes of each image in order, or why it cannot be read."""
    top = min(top, len(model.classes))
    for found in _decoded(model, paths, batch):
        pixels = [pixels for _, pixels in found if not isinstance(pixels, UnreadableImageError)]
        top_k = model.probabilities(pixels).topk(top) if pixels else ()
        best = zip(*(part.tolist() for part in top_k), strict=True)
        for path, made in found:
            if isinstance(made, UnreadableImageError):
                yield made
                continue
            values, numbers = next(best)
            labels = (model.classes[number] for number in numbers)
            yield Ranked(path, [*zip(labels, values, strict=True)])


def _decoded(model: Adapted, paths: Sequence[Path], batch: int) -> Iterator[list[tuple[Path, Any]]]:
    """Yield each batch as (path, pixels or the error) of its images."""
    source = FileSource(Path())

    def look(path: Path) -> tuple[Path, Any]:
        try:
            return path, model.preprocess(source.image(str(path)))
        except UnreadableImageError as error:
            return path, error

    batches = [paths[begin : begin + batch] for begin in range(0, len(paths), batch)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead: deque[list[Future[tuple[Path, Any]]]] = deque()
        for few in [*batches, *[()] * AHEAD]:
            ahead.append([pool.submit(look, path) for path in few])
            if len(ahead) > AHEAD:
                yield [future.result() for future in ahead.popleft()]


@contextmanager
def csv_writer(out: Path, top: int, threshold: float) -> Iterator[Write]:
    """Yield what writes a row to a CSV file, which is there once the block has succeeded.

    A label is empty where the probability is below `threshold`.
    """
    with replacing(out) as path, path.open("w", newline="", **_UTF8) as file:
        rows = csv.writer(file)
        rows.writerow(["path", *_names(top)])

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

    say(console, line([*_names(top), "path"]))

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


def _names(top: int) -> list[str]:
    """Name the columns of the most probable classes."""
    later = (f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "probability"))
    return ["label", "probability", *later]
