from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="4 keys, but 1 groups"):
        Split(split.keys, split.labels, ("x",))


def test_labels_are_read_only_and_one_a_key() -> None:
    mine = np.array([0, 1])
    split = Split(("a", "b"), mine)
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1
    mine[0] = 7  # the caller's array stays its own
    assert split.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="2 keys"):
        Split(("a", "b"), np.array([0]))
