"""The `hf:NAME_OR_PATH` source: a data set of Hugging Face's `datasets`, an optional package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.sources.base import SPLIT_NAMES, EncodedSource, Listing, SourceKind, SplitName
from errors import InputError, one_line

if TYPE_CHECKING:
    from data.config import SourceConfig

SAVED = ("dataset_dict.json", "state.json")
"""What a folder holds that `save_to_disk` wrote."""
HIDDEN = -1
"""The class of each row of a test split whose labels a contest keeps to itself."""


@dataclass(frozen=True)
class HuggingFaceSource(EncodedSource):
    """Reads images of a data set; a key is `split/row`. Each process opens the set once.

    Attributes:
        place: the set's name or folder.
        column: the column of images.
        splits: the set's own name of each of our splits.
    """

    place: str
    column: str
    splits: Mapping[SplitName, str]

    def content(self, key: str) -> bytes:
        """Read the bytes, or the file that a row names."""
        name, _, row = key.partition("/")
        split = SPLIT_NAMES[name]
        image = _undecoded(self.place, self.splits[split], self.column)[int(row)][self.column]
        content: bytes | None = image["bytes"]
        return Path(image["path"]).read_bytes() if content is None else content


class HuggingFace(SourceKind):
    """A data set of the hub, or a folder that `load_dataset` or `load_from_disk` can open.

    Its images are the column `columns.path` or the only one of images, and its labels the column
    `columns.label` or the only one of classes. Splits are known by their names; one whose labels
    are hidden, all of them -1, is passed over.
    """

    place = "NAME_OR_PATH"

    def check(self, config: SourceConfig) -> None:
        """Raise InputError if the package is missing."""
        if find_spec("datasets") is None:
            raise InputError(
                "source: hf: needs a package that is not installed: pip install 'datasets>=4'"
            )

    def canonical(self, config: SourceConfig) -> str | Path:
        """Spell a folder from the root; a name stays."""
        return _place(config)

    def list_images(self, config: SourceConfig) -> Listing:
        """List every image, without decoding any."""
        self.check(config)
        place = _place(config)
        opened = _open(place)
        splits: dict[SplitName, str] = {}
        for name in opened:
            if split := SPLIT_NAMES.get(name.lower()):
                splits.setdefault(split, name)
        if "train" not in splits:
            raise InputError(f"source: {config.source} has no split train, but {', '.join(opened)}")
        features = opened[splits["train"]].features
        column = _column(config, features, config.columns.path, "Image")
        classes = _column(config, features, config.columns.label, "ClassLabel")
        labelled = {split: _labels(config, opened[name], classes) for split, name in splits.items()}
        splits = {split: name for split, name in splits.items() if labelled[split]}
        if "train" not in splits:
            raise InputError(f"source: {config.source} hides the labels of its split train")
        rows = [
            (f"{split}/{row:07d}", label, split)
            for split in splits
            for row, label in enumerate(labelled[split])
        ]
        keys, labels, homes = zip(*rows, strict=True)
        other = [name for name in opened if name not in splits.values()]
        names = getattr(features[classes], "names", None)
        return Listing(
            HuggingFaceSource(place, column, splits),
            keys,
            labels,
            homes,
            classes=names and tuple(names),
            passed_over=(f"splits passed over: {', '.join(other)}",) if other else (),
        )


def _place(config: SourceConfig) -> str:
    """Return the folder that is named, from the root, or else the name."""
    return str(config.path) if os.path.isdir(config.path) else config.place


@cache
def _open(place: str) -> dict[str, Any]:
    """Open a data set; returns its splits by their names."""
    import datasets  # with pandas and more, seconds to import

    saved = any((Path(place) / name).is_file() for name in SAVED)
    try:
        found = datasets.load_from_disk(place) if saved else datasets.load_dataset(place)
    except Exception as error:  # of many kinds: no such set, no network, files of no known kind
        raise InputError(f"source: cannot open hf:{place} ({one_line(error)})") from error
    return dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}


@cache
def _undecoded(place: str, split: str, column: str) -> Any:
    import datasets

    return _open(place)[split].cast_column(column, datasets.Image(decode=False))


def _column(config: SourceConfig, features: Mapping[str, Any], name: str, kind: str) -> str:
    """Find the column of a name, or else the only one of a kind of feature."""
    alike = [key for key, feature in features.items() if type(feature).__name__ == kind]
    if name in features and (kind != "Image" or name in alike):
        return name
    if len(alike) == 1:
        return alike[0]
    key = "path" if kind == "Image" else "label"
    raise InputError(
        f"columns: {config.source} has {len(alike)} columns of the kind {kind}; name one by "
        f"columns.{key}; it has {', '.join(features)}"
    )


def _labels(config: SourceConfig, images: Any, column: str) -> list[str]:
    """Read the class names of all rows; none where the set hides them all."""
    names = getattr(images.features[column], "names", None)
    found: list[str] = []
    values = images.select_columns([column])[:][column]
    if names and set(values) == {HIDDEN}:
        return found
    for row, value in enumerate(values):
        if not isinstance(value, str | int) or (names and not 0 <= int(value) < len(names)):
            raise InputError(f"source: {config.source}, row {row}: {value!r:.80} is no class")
        found.append(names[value] if names else str(value).strip())
    return found
