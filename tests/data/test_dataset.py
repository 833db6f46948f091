from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from data import DataConfig, Dataset, SourceConfig, Split, load_dataset
from errors import InputError

DIGITS = DataConfig(source="digits")


def table(folder: Path, rows: list[str], header: str = "path,label,split") -> DataConfig:
    (folder / "images.csv").write_text("\n".join([header, *rows]))
    return DataConfig(source=f"csv:{folder / 'images.csv'}")


def splits_of(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.val, dataset.tests["test"].split]


def test_digits_are_divided_by_the_fractions() -> None:
    dataset = load_dataset(DataConfig(source="digits", val_fraction=0.1, test_fraction=0.3))
    assert [len(split) for split in splits_of(dataset)] == [1078, 180, 539]
    assert len({key for split in splits_of(dataset) for key in split.keys}) == 1797
    assert dataset.classes[:3] == ("zero", "one", "two")
    assert dataset.warnings == ()


def test_draws_are_stratified_and_follow_the_seed() -> None:
    first, again, other = (
        load_dataset(DataConfig(source="digits", split_seed=seed)) for seed in (0, 0, 1)
    )
    keys = [dataset.tests["test"].split.keys for dataset in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]
    test = first.tests["test"].split
    shares = np.bincount(first.train.labels) / len(first.train)
    assert np.abs(shares - np.bincount(test.labels) / len(test)).max() < 0.01


def test_given_splits_are_kept_and_lacking_ones_drawn_from_train(tmp_path: Path) -> None:
    rows = [f"train{n},{n % 2},train" for n in range(40)] + [
        f"test{n},{n % 2},test" for n in (0, 1)
    ]
    dataset = load_dataset(table(tmp_path, rows))
    assert dataset.tests["test"].split.keys == ("test0", "test1")
    assert len(dataset.val) == 6
    assert all(key.startswith("train") for key in dataset.val.keys + dataset.train.keys)


def test_labels_index_the_classes(tmp_path: Path) -> None:
    rows = [f"{split}/{name},{name},{split}" for split in ("train", "val", "test") for name in "ba"]
    dataset = load_dataset(table(tmp_path, rows))
    assert dataset.classes == ("a", "b")
    for split in splits_of(dataset):
        assert [dataset.classes[label] for label in split.labels] == ["b", "a"]
        assert [key[-1] for key in split.keys] == ["b", "a"]


def test_whole_numbers_are_classes_in_their_own_order(tmp_path: Path) -> None:
    rows = [f"{n}-{label},{label}" for n in range(4) for label in (10, 9, 2)]
    assert load_dataset(table(tmp_path, rows, "path,label")).classes == ("2", "9", "10")


def test_drawn_splits_keep_groups_whole(tmp_path: Path) -> None:
    rows = [f"{n},{n % 2},g{n // 4}" for n in range(80)]
    dataset = load_dataset(table(tmp_path, rows, "path,label,group"))
    homes = [{int(key) // 4 for key in split.keys} for split in splits_of(dataset)]
    assert all(homes)
    assert sum(map(len, homes)) == 20
    assert dataset.warnings == ()


def test_a_group_in_two_given_splits_is_a_warning(tmp_path: Path) -> None:
    rows = [f"{split}{n},{n},{split},g{n}" for split in ("train", "val", "test") for n in (0, 1)]
    dataset = load_dataset(table(tmp_path, rows, "path,label,split,group"))
    assert dataset.warnings == ("2 groups have images in more than one split, such as 'g0'",)


def test_splits_know_their_groups(tmp_path: Path) -> None:
    rows = [f"{n},{n % 2},g{n // 4}" for n in range(80)]
    dataset = load_dataset(table(tmp_path, rows, "path,label,group"))
    for split in splits_of(dataset):
        assert split.groups == tuple(f"g{int(key) // 4}" for key in split.keys)
    assert all(split.groups is None for split in splits_of(load_dataset(DIGITS)))


def test_an_extra_test_has_groups_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "phone.csv").write_text("path,label,group\na,0,p\nb,1,q\nc,1,p\n")
    rows = [f"{split}{n},{n},{split}" for split in ("train", "val", "test") for n in (0, 1)]
    phone = SourceConfig(source=f"csv:{tmp_path / 'phone.csv'}")
    config = table(tmp_path, rows).model_copy(update={"extra_tests": {"phone": phone}})
    dataset = load_dataset(config)
    assert dataset.tests["phone"].split.groups == ("p", "q", "p")
    assert dataset.tests["test"].split.groups is None


def test_a_class_absent_from_val_or_test_is_a_warning(tmp_path: Path) -> None:
    rows = ["a,x,train", "b,y,train", "c,x,val", "d,y,test"]
    assert load_dataset(table(tmp_path, rows)).warnings == (
        "val has no image of 1 of 2 classes: y",
        "test has no image of 1 of 2 classes: x",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,x,train", "b,y,train", "c,z,test", "d,x,val"], "class 'z' in test but not in train"),
        (
            [
                "a,Golden Retriever,train",
                "b,y,train",
                "c,golden_retriever,test",
                "d,y,test",
                "e,y,val",
            ],
            "'golden_retriever' in test but not in train; did you mean 'Golden Retriever'",
        ),
        (
            ["a,x,train", "b,y,train", "c,unknown,test", "d,y,val"],
            r"'unknown' in test but not in train; without labels, take test away, and it is drawn",
        ),
        (["a,x,train", "b,x,val", "c,x,test"], "has one class, 'x'; needed are two or more"),
        (["a,x,val", "b,y,test"], "has no training images"),
        (["a,x,train", "b,y,train"], "too few images .* to draw test from train"),
        (["a,x,train", "b,y,train", "c,x,test"], "too few images .* to draw val from train"),
    ],
)
def test_impossible_data_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_dataset(table(tmp_path, rows))
    assert "\n" not in str(error.value)


def test_folders_are_loaded(tmp_path: Path) -> None:
    for name in ("train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "test/b/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    dataset = load_dataset(DataConfig(source=f"folder:{tmp_path}"))
    assert [split.keys for split in splits_of(dataset)] == [
        ("train/a/1.jpg", "train/b/2.jpg"),
        ("val/a/3.jpg",),
        ("test/b/4.jpg",),
    ]


def test_rows_of_a_split_are_selected_and_dropped() -> None:
    split = Split(("a", "b", "c"), np.array([0, 1, 2]))
    assert split.select([2, 0]).keys == ("c", "a")
    assert split.select([2, 0]).labels.tolist() == [2, 0]
    assert split.without([1]).keys == ("a", "c")
    assert split.without([]).keys == split.keys
    assert len(split) == 3


def test_groups_are_selected_with_their_rows_and_numbered_as_they_come() -> None:
    split = Split(("a", "b", "c", "d"), np.arange(4), ("y", "x", "y", "z"))
    assert split.select([3, 0]).groups == ("z", "y")
    assert split.without([0]).groups == ("x", "y", "z")
    assert split.group_ids is not None
    assert split.group_ids.tolist() == [0, 1, 0, 2]
    assert Split(("a",), np.array([0])).group_ids is None


def test_labels_are_read_only() -> None:
    mine = np.array([0, 1])
    split = Split(("a", "b"), mine)
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1
    mine[0] = 7  # the caller's array stays its own
    assert split.labels.tolist() == [0, 1]


# Further test sets

MAIN = [f"{split}/{name},{name},{split}" for split in ("train", "val", "test") for name in "abc"]


def source_of(file: Path, rows: list[str], header: str = "path,label,split") -> str:
    file.write_text("\n".join([header, *rows]))
    return f"csv:{file}"


def load(folder: Path, **extra_tests: dict[str, object]) -> Dataset:
    source = source_of(folder / "images.csv", MAIN)
    return load_dataset(DataConfig.model_validate({"source": source, "extra_tests": extra_tests}))


def test_a_source_without_a_test_split_is_a_test_as_a_whole(tmp_path: Path) -> None:
    source = source_of(tmp_path / "other.csv", ["1,c,train", "2,a,val", "3,c,train"])
    extra = load(tmp_path, street={"source": source}).tests["street"]
    assert extra.split.keys == ("1", "2", "3")
    assert extra.split.labels.tolist() == [2, 0, 2]


def test_of_a_source_with_a_test_split_only_that_is_taken(tmp_path: Path) -> None:
    # Its training images may have classes of their own.
    source = source_of(tmp_path / "other.csv", ["1,a,train", "2,b,test", "3,z,train", "4,a,test"])
    extra = load(tmp_path, street={"source": source}).tests["street"]
    assert extra.split.keys == ("2", "4")
    assert extra.split.labels.tolist() == [1, 0]


def test_extra_tests_have_their_own_source_and_change_no_split(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_text(name)
    source = source_of(tmp_path / "other.csv", ["photos/a/1.jpg,a"], "file,kind")
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
    source = source_of(tmp_path / "other.csv", ["1,b", "2,b"], "path,label")
    assert load(tmp_path, street={"source": source}).warnings == (
        "street has no image of 2 of 3 classes: a, c",
    )


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path / "other.csv", ["1,a", "2,B"], "path,label")
    with pytest.raises(InputError) as error:
        load(tmp_path, street={"source": source})
    assert str(error.value) == (
        f"data.extra_tests.street.source: {source} has class 'B', which train lacks; "
        "did you mean 'b'? allowed are the 3 classes of train"
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
    source_of(tmp_path / "other.csv", ["1,a"], "path,label")
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
    source_of(tmp_path / "images.csv", MAIN)
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
        source=source_of(tmp_path / "images.csv", rows, "path,label"),
        class_names=tmp_path / "names.yaml",
    )
    dataset = load_dataset(config)
    assert dataset.classes == ("10.pear", "Red-apple", "red_apple")
    assert dataset.words == ("a ripe pear", "Red apple", "red apple")
    assert len(dataset.warnings) == 1
    assert "2 classes share their words" in dataset.warnings[0]


def test_digests_are_selected_with_their_rows() -> None:
    split = Split(("a", "b", "c"), np.array([0, 1, 0]), digests=("1", "2", "3"))
    assert split.select([2, 0]).digests == ("3", "1")
    assert split.without([1]).digests == ("1", "3")
    assert Split(("a",), np.array([0])).select([0]).digests is None
