from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from data import DataConfig, SourceConfig, load_dataset
from data.sources import SOURCES, FileSource, Listing
from data.sources.torchvision_sets import TorchvisionSource, _open
from errors import InputError


@pytest.fixture(autouse=True)
def _nothing_open() -> None:
    _open.cache_clear()


def list_torchvision(name: str, root: Path) -> Listing:
    config = SourceConfig(source=f"torchvision:{name}", root=root)
    return SOURCES["torchvision"].list_images(config)


def add_set(monkeypatch: pytest.MonkeyPatch, constructor: type) -> None:
    monkeypatch.setattr(datasets, "Tiny", constructor, raising=False)


class Arrays(datasets.VisionDataset):  # type: ignore[misc]
    """In the manner of CIFAR10."""

    classes = ("cat", "dog")

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
        self.targets = [0, 1] * (4 if train else 2)
        self.brightness = 200 if train else 100

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return Image.new("L", (3, 3), self.brightness + row), self.targets[row]


class Files(datasets.VisionDataset):  # type: ignore[misc]
    """In the manner of Flowers102 or OxfordIIITPet; `known` are its splits."""

    known = ("train", "val", "test")

    def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
        if split not in self.known:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        self._image_files = [Path(root) / f"{split}{row}.png" for row in (1, 0)]
        self._labels = [1, 0]
        for file in self._image_files:
            file.parent.mkdir(exist_ok=True)
            Image.new("RGB", (2, 2)).save(file)


def test_arrays_are_read_through_the_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_set(monkeypatch, Arrays)
    listing = list_torchvision("Tiny", tmp_path)
    assert listing.splits.count("train") == 8
    assert listing.splits.count("test") == 4
    assert listing.classes == ("cat", "dog")
    assert dict(zip(listing.keys, listing.labels, strict=True))["test/000001"] == "dog"

    source = pickle.loads(pickle.dumps(listing.source))
    assert isinstance(source, TorchvisionSource)
    assert source.image("test/000001").getpixel((0, 0)) == (101, 101, 101)
    assert len({source.digest(key) for key in listing.keys}) == 12


def test_files_are_read_without_the_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_set(monkeypatch, Files)
    listing = list_torchvision("Tiny", tmp_path)
    assert listing.source == FileSource(tmp_path)
    assert sorted(listing.keys) == sorted(
        f"{split}{row}.png" for split in ("train", "val", "test") for row in (0, 1)
    )
    labels = dict(zip(listing.keys, listing.labels, strict=True))
    assert labels["train0.png"] == "0"
    assert labels["train1.png"] == "1"


@pytest.mark.parametrize(
    ("known", "splits"),
    [
        (("train", "valid"), {"train", "val"}),
        (("trainval", "test"), {"train", "test"}),
        (("train",), {"train"}),
    ],
)
def test_a_set_gives_the_splits_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: tuple[str, ...], splits: set[str]
) -> None:
    add_set(monkeypatch, type("Tiny", (Files,), {"known": known}))
    assert set(list_torchvision("Tiny", tmp_path).splits) == splits


def test_a_set_without_splits_or_label_list_is_read_through(tmp_path: Path) -> None:
    fake = {"size": 40, "image_size": (3, 4, 4), "num_classes": 2}

    class Fake(datasets.FakeData):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(**fake)

    with pytest.MonkeyPatch.context() as patch:
        add_set(patch, Fake)
        dataset = load_dataset(DataConfig(source="torchvision:Tiny", root=tmp_path))
        assert dataset.classes == ("0", "1")
        test = dataset.tests["test"].split
        assert len(dataset.train) + len(dataset.val) + len(test) == 40
        assert dataset.source.image(test.keys[0]).size == (4, 4)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([("tench", "Tinca"), ("crane",), ("crane",)], ("tench", "crane (1)", "crane (2)")),
        (["only one"], ("0", "1", "2")),
    ],
)
def test_class_names_are_one_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: list[Any], names: tuple[str, ...]
) -> None:
    add_set(monkeypatch, with_labels(np.array([0, 1, 2]), given))
    assert list_torchvision("Tiny", tmp_path).classes == names


@pytest.mark.parametrize(
    "labels", [[[0, 1], [1]], [[0, 1], [1, 0]], [0.5, 1.0], [None], [-1, 0], []]
)
def test_sets_without_one_class_an_image_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labels: list[Any]
) -> None:
    add_set(monkeypatch, with_labels(labels, []))
    with pytest.raises(InputError, match="does not give one class an image"):
        list_torchvision("Tiny", tmp_path)


def with_labels(labels: Any, classes: list[Any]) -> type:
    def prepare(self: Any, root: str) -> None:
        self.targets, self.classes = labels, classes

    return type("Tiny", (datasets.VisionDataset,), {"__init__": prepare})


@pytest.mark.parametrize(
    "failure",
    [URLError("no route"), RuntimeError("File not found\nor corrupted"), TimeoutError("timed out")],
)
def test_a_failed_download_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    def fail(self: Any, root: str, download: bool) -> None:
        raise failure

    add_set(monkeypatch, type("Tiny", (datasets.VisionDataset,), {"__init__": fail}))
    with pytest.raises(InputError, match="cannot download torchvision:Tiny") as error:
        list_torchvision("Tiny", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Food100", "no data set 'Food100'; did you mean Food101?"),
        ("qqqq", "allowed are the names in torchvision.datasets"),
        ("vision", "no data set 'vision'"),
        ("VisionDataset", "no data set 'VisionDataset'"),
        ("EMNIST", "cannot open torchvision:EMNIST"),
        ("CocoDetection", "cannot open torchvision:CocoDetection"),
    ],
)
def test_sets_that_cannot_be_opened_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        list_torchvision(name, tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
