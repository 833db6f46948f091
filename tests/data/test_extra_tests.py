from __future__ import annotations

from pathlib import Path

import pytest
from torchvision import datasets

from data import DataConfig, Dataset, Split, load_dataset
from errors import InputError

MAIN = [f"{split}/{name},{name},{split}" for split in ("train", "val", "test") for name in "abc"]


def table(file: Path, rows: list[str], header: str = "path,label,split") -> str:
    file.write_text("\n".join([header, *rows]))
    return f"csv:{file}"


def load(folder: Path, **extra_tests: dict[str, object]) -> Dataset:
    source = table(folder / "images.csv", MAIN)
    return load_dataset(DataConfig.model_validate({"source": source, "extra_tests": extra_tests}))


def splits_of(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.val, dataset.tests["test"].split]


def test_a_source_without_a_test_split_is_a_test_as_a_whole(tmp_path: Path) -> None:
    source = table(tmp_path / "other.csv", ["1,c,train", "2,a,val", "3,c,train"])
    extra = load(tmp_path, street={"source": source}).tests["street"]
    assert extra.split.keys == ("1", "2", "3")
    assert extra.split.labels.tolist() == [2, 0, 2]


def test_of_a_source_with_a_test_split_only_that_is_taken(tmp_path: Path) -> None:
    # Its training images may have classes of their own.
    source = table(tmp_path / "other.csv", ["1,a,train", "2,b,test", "3,z,train", "4,a,test"])
    extra = load(tmp_path, street={"source": source}).tests["street"]
    assert extra.split.keys == ("2", "4")
    assert extra.split.labels.tolist() == [1, 0]


def test_extra_tests_have_their_own_source_and_change_no_split(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_text(name)
    source = table(tmp_path / "other.csv", ["photos/a/1.jpg,a"], "file,kind")
    with_tests = load(
        tmp_path,
        photos={"source": f"folder:{tmp_path / 'photos'}"},
        listed={"source": source, "columns": {"path": "file", "label": "kind"}},
    )
    without = load(tmp_path)
    assert list(without.tests) == ["test"]
    for ours, theirs in zip(splits_of(with_tests), splits_of(without), strict=True):
        assert ours.keys == theirs.keys
        assert ours.labels.tolist() == theirs.labels.tolist()
    photos, listed = (with_tests.tests[name] for name in ("photos", "listed"))
    assert list(with_tests.tests) == ["test", "photos", "listed"]
    assert photos.split.keys == ("a/1.jpg", "b/2.jpg", "c/3.jpg")
    assert photos.source.digest("a/1.jpg") == listed.source.digest("photos/a/1.jpg")


def test_classes_absent_from_an_extra_test_are_a_warning(tmp_path: Path) -> None:
    source = table(tmp_path / "other.csv", ["1,b", "2,b"], "path,label")
    assert load(tmp_path, street={"source": source}).warnings == (
        "street has no image of 2 of 3 classes: a, c",
    )


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "other.csv", ["1,a", "2,B"], "path,label")
    with pytest.raises(InputError) as error:
        load(tmp_path, street={"source": source})
    assert str(error.value) == (
        f"data.extra_tests.street.source: {source} has class 'B', which train lacks; "
        "allowed are the 3 classes of train"
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"source": "csv:none.csv"}, "street.source: cannot read .*none.csv"),
        ({"source": "csv:other.csv", "root": "none"}, "street.root: no folder .*none"),
        (
            {"source": "csv:other.csv", "columns": {"label": "kind"}},
            "street.columns: .* has no column 'kind'",
        ),
        ({"source": "folder:none"}, "street.source: no folder .*none"),
        ({"source": "folder:."}, "street.source: .* holds no images"),
        ({"source": "torchvision:CIFAR1"}, "street.source: torchvision has no data set 'CIFAR1'"),
    ],
)
def test_errors_name_the_extra_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "other.csv", ["1,a"], "path,label")
    with pytest.raises(InputError, match=rf"^data\.extra_tests\.{message}") as error:
        load(tmp_path, street=extra)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("main", "extra"),
    [
        ("digits", "digits"),
        ("csv:{}/images.csv", "csv:{}/../{}/images.csv"),
        ("folder:{}/photos", "folder:{}/photos/"),
        ("folder:{}/photos", "folder:{}/link"),
        ("torchvision:Small", "torchvision:Small"),
    ],
)
def test_the_main_source_is_no_extra_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str, extra: str
) -> None:
    table(tmp_path / "images.csv", MAIN)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "photos" / name / f"{number}.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos")

    class Small(datasets.VisionDataset):  # type: ignore[misc]
        def __init__(self, root: str) -> None:
            self.targets = [0, 1] * 5

    monkeypatch.setattr(datasets, "Small", Small, raising=False)
    config = {
        "source": main.format(tmp_path),
        "extra_tests": {"again": {"source": extra.format(tmp_path, tmp_path.name)}},
    }
    with pytest.raises(InputError, match=r"^data\.extra_tests\.again\.source: .* data\.source it"):
        load_dataset(DataConfig.model_validate(config))


def test_words_follow_the_classes(tmp_path: Path) -> None:
    rows = [f"{n}{name},{name}" for n in range(9) for name in ("red_apple", "10.pear", "Red-apple")]
    (tmp_path / "names.yaml").write_text("10.pear: a ripe pear")
    config = DataConfig(
        source=table(tmp_path / "images.csv", rows, "path,label"),
        class_names=tmp_path / "names.yaml",
    )
    dataset = load_dataset(config)
    assert dataset.classes == ("10.pear", "Red-apple", "red_apple")
    assert dataset.words == ("a ripe pear", "Red apple", "red apple")
    assert len(dataset.warnings) == 1
    assert "2 classes share their words" in dataset.warnings[0]
