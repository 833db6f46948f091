"""The `torchvision:NAME` source: any classification set of torchvision, downloaded if needed."""

from __future__ import annotations

import difflib
import inspect
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.decoding import pixel_digest, to_rgb
from data.sources.base import FileSource, ImageSource, Listing, SourceKind, SplitName, reading
from errors import InputError
from files import expanded

if TYPE_CHECKING:
    from data.config import SourceConfig

DEFAULT_ROOT = Path("~/.cache/torchvision")
DOWNLOAD_ERRORS = (
    OSError,
    RuntimeError,
    EOFError,
    ImportError,
    tarfile.TarError,
    zipfile.BadZipFile,
)

Argument = tuple[str, str | bool] | None
"""The constructor's argument that picks a split, such as ("split", "train")."""

SPLIT_ARGUMENTS: dict[str, dict[SplitName, list[Argument]]] = {
    "split": {
        "train": [("split", "train"), ("split", "trainval")],
        "val": [("split", "val"), ("split", "valid")],
        "test": [("split", "test")],
    },
    "train": {"train": [("train", True)], "test": [("train", False)]},
    "": {"train": [None]},
}
"""What to try for each split, in this order, by the parameter that a constructor has."""


@dataclass(frozen=True)
class TorchvisionSource:
    """Reads images that a torchvision set holds in arrays; a key is `split/row`.

    Each process opens the set once, when it first reads from it.
    """

    name: str
    root: Path
    arguments: dict[str, Argument]

    def digest(self, key: str) -> str:
        """Compute the SHA-256 of the image's pixels."""
        return pixel_digest(self.image(key))

    def image(self, key: str, least: int | None = None) -> Image.Image:
        """Get the image from the set, as RGB."""
        split, _, row = key.partition("/")
        with reading(key):
            return to_rgb(_open(self.name, self.root, self.arguments[split])[int(row)][0])


class TorchvisionSets(SourceKind):
    """Any classification set of torchvision, by its name; `root` is the download folder.

    Sets that keep their images in files are read from those files, without torchvision.
    """

    place = "NAME"
    takes_root = True

    def list_images(self, config: SourceConfig) -> Listing:
        """List every image of `torchvision.datasets.NAME`, with the splits that the set has."""
        name, folder = config.place, expanded(config.root or DEFAULT_ROOT, "root").absolute()
        opened = _open_splits(name, folder)
        class_ids = {split: _class_ids(name, images) for split, (_, images) in opened.items()}
        files = {split: _files(images, folder) for split, (_, images) in opened.items()}

        source: ImageSource = FileSource(folder)
        if not all(files.values()):
            source = TorchvisionSource(
                name, folder, {split: used for split, (used, _) in opened.items()}
            )
            files = {
                split: [f"{split}/{row:06d}" for row in range(len(ids))]
                for split, ids in class_ids.items()
            }
        count = 1 + max(int(ids.max()) for ids in class_ids.values())
        names = _class_names(opened["train"][1], count)
        rows = sorted(  # some sets list their files in the file system's order
            (key, names[class_id], split)
            for split, ids in class_ids.items()
            for key, class_id in zip(files[split], ids.tolist(), strict=True)
        )
        keys, labels, splits = zip(*rows, strict=True)
        return Listing(source, keys, labels, splits, classes=names)


@cache
def _open(name: str, root: Path, argument: Argument, download: bool = False) -> Any:
    constructor = _constructor(name)
    parameters = inspect.signature(constructor).parameters
    offered = {"root": str(root), "download": download}
    return constructor(
        **{key: value for key, value in offered.items() if key in parameters},
        **dict([argument] if argument else []),
    )


def _open_splits(name: str, root: Path) -> dict[SplitName, tuple[Argument, Any]]:
    parameters = inspect.signature(_constructor(name)).parameters
    way = next((key for key in SPLIT_ARGUMENTS if key in parameters), "")
    opened: dict[SplitName, tuple[Argument, Any]] = {}
    for split, arguments in SPLIT_ARGUMENTS[way].items():
        for argument in arguments:
            try:
                opened[split] = argument, _open(name, root, argument, download=True)
                break
            except DOWNLOAD_ERRORS as error:
                raise InputError(
                    f"source: cannot download torchvision:{name} to {root} ({_first_line(error)})"
                ) from error
            # No such split; or a set that needs other arguments, or is none.
            except (ValueError, TypeError, NotImplementedError) as error:
                refusal = error
        if "train" not in opened:
            raise InputError(
                f"source: cannot open torchvision:{name} ({_first_line(refusal)}); "
                "allowed are classification sets that open without further arguments"
            ) from refusal
    return opened


def _constructor(name: str) -> Any:
    from torchvision import datasets  # with torch, seconds to import

    constructor = getattr(datasets, name, None)
    base = datasets.VisionDataset
    if inspect.isclass(constructor) and issubclass(constructor, base) and constructor is not base:
        return constructor
    names = [known for known in datasets.__all__ if known != base.__name__]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "allowed are the names in torchvision.datasets"
    raise InputError(f"source: torchvision has no data set {name!r}; {hint}")


def _class_ids(name: str, images: Any) -> NDArray[np.int64]:
    """Class ids (n,), from the set's own list if it has one, else by reading every item."""
    if (samples := _samples(images)) is not None:
        values: Any = [sample[1] for sample in samples]
    else:
        lists = (getattr(images, key, None) for key in ("targets", "_labels", "labels", "y"))
        values = next((found for found in lists if found is not None), None)
    if values is None:
        values = [images[row][1] for row in range(len(images))]
    try:
        class_ids = np.asarray(values)
    except (ValueError, TypeError):  # ragged: several labels an image
        class_ids = np.empty(0)
    whole = class_ids.ndim == 1 and class_ids.dtype.kind in "iu" and class_ids.size > 0
    if not whole or class_ids.min() < 0:
        raise InputError(f"source: torchvision:{name} does not give one class an image")
    return class_ids.astype(np.int64)


def _files(images: Any, root: Path) -> list[str]:
    """The image files as keys, relative to `root` if they lie there; empty without files."""
    files: Any = getattr(images, "_image_files", None) or getattr(images, "_images", None)
    if (samples := _samples(images)) is not None:
        files = [sample[0] for sample in samples]
    if not files or not all(isinstance(file, str | Path) for file in files):
        return []
    paths = [Path(file).absolute() for file in files]
    return [
        (path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths
    ]


def _samples(images: Any) -> Sequence[Any] | None:
    """The (image or file, class id) pairs that many sets keep."""
    samples: Sequence[Any] | None = getattr(images, "samples", None)
    return getattr(images, "_samples", None) if samples is None else samples


def _class_names(images: Any, count: int) -> tuple[str, ...]:
    """A name for each class id: the set's own (the first of several), else the number."""
    given = getattr(images, "classes", None) or getattr(images, "categories", None) or []
    names = [name if isinstance(name, str) else str(name[0]) for name in given]
    if len(names) < count:
        return tuple(map(str, range(count)))
    return tuple(
        name if names.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(names)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
