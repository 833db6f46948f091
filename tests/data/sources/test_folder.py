from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data import SourceConfig
from data.sources import SOURCES, Listing
from errors import InputError
from records import JOURNAL

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


@pytest.mark.parametrize("val", ["val", "valid", "validation", "validate", "Val", "dev", "Eval"])
@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "Training"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_split_folders_are_taken_as_they_are(tree: Tree, train: str, val: str, test: str) -> None:
    files = [f"{train}/cat/a.jpg", f"{val}/cat/b.jpg", f"{test}/dog/c.jpg"]
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
        (["Testing/a/a.jpg", "photos/a/a.jpg"], "has Testing/, but no train/"),
        (["train/a/a.jpg", "dev/a/a.jpg", "eval/a/a.jpg"], "both dev/ and eval/; keep one"),
        (["cat/a.jpg", "train/a.jpg"], "if train is a class and no split, call it something else"),
        (["train/a/a.jpg", "test/a.jpg"], "themselves; take test/ away, and test is drawn from"),
        (["a.jpg", "b.jpg"], "themselves; if it is one class of several, name the folder above"),
        (
            ["color/a/1.jpg", "color/b/1.jpg", "grey/a/1.jpg", "grey/b/1.jpg"],
            r"\(color/, grey/\) each hold the same folders \(a/, b/\), .* folder:/.*/color",
        ),
        (
            ["train/0/a/1.jpg", "train/0/b/1.jpg", "train/1/a/1.jpg", "train/1/b/1.jpg"],
            r"each hold the same folders \(a/, b/\), .* folder:/.*/train/0",
        ),
        (
            ["images/a/1.jpg", "images/b/1.jpg"],
            "one folder, images/, which holds a/, b/; .*/images",
        ),
        (
            ["photos/train/a/1.jpg", "photos/test/a/1.jpg"],
            "one folder, photos/, .*folder:.*/photos",
        ),
        (
            ["cat/train/1.jpg", "cat/test/1.jpg", "dog/train/1.jpg", "dog/test/1.jpg"],
            "each hold test/, train/; splits stand above classes: .*/train/cat",
        ),
        (
            ["train/all/a/1.jpg", "train/all/b/1.jpg"],
            "one folder, all/, .*; .*, move them to .*/train",
        ),
        (["training_set/a/1.jpg", "test_set/a/1.jpg"], "named like splits, not classes"),
        (["traindata/1.jpg", "testdata/1.jpg"], r"named like splits, .* \(testdata/, traindata/\)"),
        (["cat/1.jpg", "dog/1.HEIC"], r"dog holds no image; .*\(1 file passed over: 1 .HEIC; HEIC"),
    ],
)
def test_ill_formed_folders_are_refused(tree: Tree, files: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list_folder(tree(*files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "files",
    [
        ["normal/p1/1.jpg", "normal/p2/1.jpg", "tumour/p3/1.jpg"],  # patients
        ["cat/images/1.jpg", "dog/images/1.jpg"],
        ["cat/left/1.jpg", "cat/right/1.jpg", "cat/1.jpg", "dog/left/1.jpg", "dog/right/1.jpg"],
        ["freight_train/1.jpg", "steam_train/1.jpg"],
    ],
)
def test_class_folders_may_hold_folders(tree: Tree, files: list[str]) -> None:
    listing = list_folder(tree(*files))
    assert listing.keys == tuple(sorted(files, key=lambda file: Path(file).parts))
    patients = (
        "all images lie in 3 folders inside the class folders (p1, p2, p3); if those are "
        "the classes, name the folder above them, or list the images in a csv:",
    )
    assert listing.passed_over == (patients if "tumour/p3/1.jpg" in files else ())


def test_what_is_passed_over_is_told(tree: Tree) -> None:
    root = tree(
        *("train/cat/a.jpg", "train/cat/b.HEIC", "train/cat/c.HEIC", "train/cat/d", "train/e.png"),
        *("train/cat/.a.jpg", "train/cat/@eaDir/a.jpg", "__MACOSX/train/a.jpg", "extra/f.jpg"),
    )
    (root / "train" / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    listing = list_folder(root)
    assert listing.keys == ("train/cat/a.jpg",)
    assert sorted(listing.passed_over) == [
        "1 folder beside the splits' passed over: extra",
        "1 hidden file passed over: .a.jpg",
        "1 image beside the class folders passed over: e.png",
        "1 link to nothing passed over: gone.jpg",
        "2 hidden folders passed over: @eaDir, __MACOSX",
        "3 files passed over: 2 .HEIC, 1 without an ending",
        "HEIC photos: convert them to JPEG, or install pillow-heif",
    ]


def test_a_runs_own_results_are_no_class(tree: Tree) -> None:
    """The second run in a folder of photos had another class than the first."""
    root = tree("cat/a.jpg", "dog/b.jpg", "results/tiny/accuracy.png", f"results/tiny/{JOURNAL}")
    listing = list_folder(root)
    assert listing.labels == ("cat", "dog")
    assert listing.passed_over == ("1 folder of a run's results passed over: tiny",)


def test_links_beside_the_class_folders_do_no_harm(tree: Tree) -> None:
    root = tree("cat/a.jpg", "dog/b.jpg")
    for name, target in (("self.jpg", "self.jpg"), ("dead.jpg", "nowhere"), ("all", ".")):
        (root / name).symlink_to(target)
    with pytest.raises(InputError, match=r"all holds no image; .*linked folder listed already"):
        list_folder(root)
    (root / "all").unlink()
    assert list_folder(root).keys == ("cat/a.jpg", "dog/b.jpg")


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


def test_images_that_all_lie_below_the_class_folders_are_told(tree: Tree) -> None:
    folder = tree("animal/cat/1.png", "animal/dog/2.png", "plant/fern/3.png", "plant/oak/4.png")
    (line,) = list_folder(folder).passed_over
    assert line.startswith("all images lie in 4 folders inside the class folders (cat, dog, fern, ")
    tree("plant/5.png")
    assert list_folder(folder).passed_over == ()
