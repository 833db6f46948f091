from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data import SourceConfig
from data.sources import SOURCES, Listing
from errors import InputError

Tree = Callable[..., Path]


def list_folder(place: Path | str) -> Listing:
    return SOURCES["folder"].list_images(SourceConfig(source=f"folder:{place}"))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def grow(*files: str) -> Path:
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return tmp_path

    return grow


def test_class_folders_without_splits_are_undivided(tree: Tree) -> None:
    listing = list_folder(tree("cat/b.PNG", "cat/a.jpg", "dog/deep/er/c.webp"))
    assert listing.keys == ("cat/a.jpg", "cat/b.PNG", "dog/deep/er/c.webp")
    assert listing.labels == ("cat", "cat", "dog")
    assert listing.splits == ("train",) * 3


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
@pytest.mark.parametrize("train", ["train", "Train", "TRAIN"])
def test_split_folders_are_taken_as_they_are(tree: Tree, train: str, val: str) -> None:
    files = [f"{train}/cat/a.jpg", f"{val}/cat/b.jpg", "test/dog/c.jpg"]
    listing = list_folder(tree(*files))
    assert sorted(zip(listing.keys, listing.splits, strict=True)) == sorted(
        zip(files, ("train", "val", "test"), strict=True)
    )


def test_hidden_and_other_files_are_passed_over(tree: Tree) -> None:
    root = tree(
        "cat/a.jpg", "cat/.b.jpg", "cat/.git/c.jpg", "cat/notes.txt", ".cache/d.jpg", "e.jpg"
    )
    assert list_folder(root).keys == ("cat/a.jpg",)


def test_a_relative_path_is_made_absolute(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree("photos/cat/a.jpg"))
    source = list_folder("photos").source
    monkeypatch.chdir("/")
    assert source.digest("cat/a.jpg")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.jpg"], "holds no images in one folder a class"),
        (["train/cat/a.jpg", "test/a.jpg"], "test holds no images in one folder a class"),
        (["cat/a.jpg", "dog/notes.txt"], r"class folder .*/dog holds no image"),
        (["train/a/a.jpg", "val/a/a.jpg", "valid/a/a.jpg"], "both val/ and valid/; keep one"),
        (["train/a/a.jpg", "Train/a/a.jpg"], "both Train/ and train/; keep one"),
        (["training/a/a.jpg", "test/a/a.jpg"], "has test/, but no train/"),
    ],
)
def test_ill_formed_folders_are_refused(tree: Tree, files: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list_folder(tree(*files))
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*/nowhere"):
        list_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("file", [b"cat/caf\xe9.png", b"ch\xe2t/a.png"])
def test_a_name_that_is_no_utf8_is_refused(file: bytes, tree: Tree) -> None:
    """It cannot be written to any table: the run would end with all its work done."""
    root = tree("dog/\u5199\u771f \u00e9.png")
    path = os.fsencode(root) + b"/" + file
    os.makedirs(os.path.dirname(path))
    with open(path, "wb"):
        pass
    with pytest.raises(InputError, match=r"^source: the name '.*udce.*' is not UTF-8; rename it"):
        list_folder(root)
