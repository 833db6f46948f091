"""Images in, the most probable classes of each out, as many at a time as a batch holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psutil import cpu_count

from data import FileSource, UnreadableImageError
from data.decoding import least_side
from data.sources.image_files import PassedOver, images_below
from errors import InputError

if TYPE_CHECKING:
    from models.exported import Adapted

AHEAD = 2  # batches that are decoded while the model is busy


class Ranked(NamedTuple):
    """An image's most probable classes, first the most probable, as (label, probability)."""

    path: Path
    classes: list[tuple[str, float]]


def listed(places: Sequence[Path], say: Callable[[str], None]) -> list[Path]:
    """List the files that are named, and the images below the folders that are.

    `say` takes a line for each kind of file that is passed over.

    Raises:
        InputError: a place is not there, or there are no images.
    """
    images: list[Path] = []
    passed = PassedOver()
    for place in places:
        if not place.exists():
            raise InputError(f"{place}: no such file or folder")
        if not (place.is_file() or place.is_dir()):
            raise InputError(f"{place}: neither a file nor a folder")
        if not place.is_dir():
            images.append(place)
            continue
        found, others = images_below(place, place.resolve().parent)
        images += found
        passed.update(others)
    if not images:
        why = "; ".join(passed.lines()) or "empty"
        raise InputError(f"no images in {', '.join(map(str, places))} ({why})")
    for line in passed.lines():
        say(line)
    return images


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


def columns(top: int) -> list[str]:
    """Name the columns of the most probable classes."""
    later = (f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "probability"))
    return ["label", "probability", *later]


def _decoded(model: Adapted, paths: Sequence[Path], batch: int) -> Iterator[list[tuple[Path, Any]]]:
    """Yield each batch as (path, pixels or the error) of its images."""
    source, least = FileSource(Path()), least_side(model.size)

    def look(path: Path) -> tuple[Path, Any]:
        try:
            return path, model.preprocess(source.image(str(path), least))
        except UnreadableImageError as error:
            return path, error

    batches = [paths[begin : begin + batch] for begin in range(0, len(paths), batch)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead: deque[list[Future[tuple[Path, Any]]]] = deque()
        for few in [*batches, *[()] * AHEAD]:
            ahead.append([pool.submit(look, path) for path in few])
            if len(ahead) > AHEAD:
                yield [future.result() for future in ahead.popleft()]
