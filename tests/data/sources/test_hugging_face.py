"""Data sets of Hugging Face's `datasets`, made here: nothing is downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data import DataConfig, SourceConfig, load_dataset
from data.config import ColumnNames
from data.sources import SOURCES, Listing, hugging_face
from errors import InputError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    yield
    hugging_face._open.cache_clear()
    hugging_face._undecoded.cache_clear()


def listed(place: object, **options: Any) -> Listing:
    return SOURCES["hf"].list_images(SourceConfig(source=f"hf:{place}", **options))


def made(count: int, label: Any, **more: Any) -> Any:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": label,
            **{name: datasets.Value("string") for name in more},
        }
    )
    rows = {
        "image": [Image.new("RGB", (4, 4), (n, n, n)) for n in range(count)],
        "label": [n % 2 for n in range(count)],
        **more,
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_set_is_read_by_row(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["dog", "cat"])
    splits = {"train": made(20, label), "validation": made(4, label), "other": made(2, label)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    dataset = load_dataset(DataConfig(source=f"hf:{tmp_path / 'set'}"))
    assert dataset.classes == ("dog", "cat")
    assert len(dataset.val) == 4
    assert dataset.passed_over == ("splits passed over: other",)
    source = pickle.loads(pickle.dumps(dataset.source))
    for key, label in zip(dataset.train.keys, dataset.train.labels, strict=True):
        number = int(key.removeprefix("train/"))
        assert source.image(key).getpixel((0, 0)) == (number,) * 3
        assert label == number % 2
    assert len({source.digest(key) for key in dataset.train.keys}) == len(dataset.train)


def test_a_folder_is_opened_as_datasets_does(tmp_path: Path) -> None:
    for name in ("train/cat/0.png", "train/dog/1.png", "test/cat/2.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4), (int(name[-5]),) * 3).save(tmp_path / "set" / name)
    found = listed(tmp_path / "set")
    assert sorted(zip(found.splits, found.labels, strict=True)) == [
        ("test", "cat"), ("train", "cat"), ("train", "dog")
    ]  # fmt: skip
    assert found.source.image(found.keys[0]).size == (4, 4)


def test_columns_may_be_named(tmp_path: Path) -> None:
    made(4, datasets.Value("int64"), kind=["a", "b", "a", "b"]).save_to_disk(tmp_path / "set")
    assert listed(tmp_path / "set").labels == ("0", "1", "0", "1")
    columns = ColumnNames(label="kind")
    assert listed(tmp_path / "set", columns=columns).labels == ("a", "b", "a", "b")
    with pytest.raises(InputError, match=r"^columns: .* has 0 columns of the kind ClassLabel"):
        listed(tmp_path / "set", columns=ColumnNames(label="no"))


def test_rows_without_a_class_are_refused(tmp_path: Path) -> None:
    one = made(2, datasets.Value("int64"), kind=["a", None])
    one.save_to_disk(tmp_path / "set")
    with pytest.raises(InputError, match="row 1: None is no class"):
        listed(tmp_path / "set", columns=ColumnNames(label="kind"))


def test_a_split_that_hides_its_labels_is_passed_over(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["dog", "cat"])
    hidden = made(3, label).map(lambda row: {"label": -1})
    splits = {"train": made(20, label), "test": hidden}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    found = listed(tmp_path / "set")
    assert set(found.splits or ()) == {"train"}
    assert found.passed_over == ("splits passed over: test",)
    hidden.save_to_disk(tmp_path / "hidden")
    with pytest.raises(InputError, match="hides the labels of its split train"):
        listed(tmp_path / "hidden")


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^source: cannot open hf:") as error:
        listed(tmp_path / "empty")
    assert "\n" not in str(error.value)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: pip install 'datasets>=4'$"):
        SOURCES["hf"].check(SourceConfig(source="hf:user/set"))
