"""Images in tar shards."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from data import DataConfig, SourceConfig, UnreadableImageError, load_dataset
from data.sources import SOURCES, Listing
from errors import InputError


def photo(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (level, level, level)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def samples(numbers: range) -> dict[str, bytes]:
    return {
        name: content
        for n in numbers
        for name, content in ((f"{n:04d}.png", photo(n)), (f"{n:04d}.cls", b"%d\n" % (n % 2)))
    }


def listed(pattern: Path | str) -> Listing:
    return SOURCES["webdataset"].list_images(SourceConfig(source=f"webdataset:{pattern}"))


def test_a_range_of_shards_is_read_in_place(tmp_path: Path) -> None:
    for number in range(8, 11):
        shard(tmp_path / f"part-{number:03d}.tar", samples(range(10 * number, 10 * number + 10)))
    dataset = load_dataset(DataConfig(source=f"webdataset:{tmp_path}/part-{{008..010}}.tar"))
    assert dataset.classes == ("0", "1")
    source = pickle.loads(pickle.dumps(dataset.source))
    for split in (dataset.train, dataset.val, dataset.tests["test"].split):
        for key, label in zip(split.keys, split.labels, strict=True):
            number = int(key.rpartition("/")[2].removesuffix(".png"))
            assert source.image(key).getpixel((0, 0)) == (number,) * 3
            assert label == number % 2
    assert len({source.digest(key) for key in dataset.train.keys}) == len(dataset.train)


def test_labels_and_splits_are_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    members = {
        "a/1.png": photo(1), "a/1.txt": b"a cat ", "a/2.PNG": photo(2),
        "a/2.json": json.dumps({"label": 7}).encode(), "a/2.txt.bak": b"", "3.png": photo(3),
        "4.cls": b"1",
    }  # fmt: skip
    shard(tmp_path / "train" / "0.tar", members)
    (tmp_path / "test [1]").mkdir()
    shard(tmp_path / "test [1]" / "valid-1.tar", samples(range(1)))
    assert listed(tmp_path / "test [1]" / "valid-1.tar").splits == ("val",)
    (tmp_path / "test").mkdir()
    shard(tmp_path / "test" / "valid-1.tar", samples(range(1)))
    assert listed(f"{tmp_path}/test/*.tar").splits == ("val",)
    found = listed(tmp_path / "train" / "0.tar")
    assert found.labels == ("a cat", "7")
    assert found.keys == ("0.tar/a/1.png", "0.tar/a/2.png")
    assert found.splits == ("train", "train")
    assert found.passed_over == ("2 samples without an image or a label passed over",)


def test_a_shard_that_was_cut_since_is_an_unreadable_image(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    shard(path, samples(range(2)))
    found = listed(path)
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(UnreadableImageError, match="ends too early"):
        found.source.image(found.keys[0])


def test_a_shard_that_ends_between_two_members_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    shard(path, samples(range(3)))
    with tarfile.open(path) as tar:
        ends = [member.offset for member in tar.getmembers()]
    path.write_bytes(path.read_bytes()[: ends[2]])
    with pytest.raises(InputError, match=r"0.tar has no end: it was cut off"):
        listed(path)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no*.tar", "source: no file of the name "),
        ("{0..2}.tar", "source: no file .*/1.tar"),
        ("{0..2}{0..99999999}.tar", "source: no file "),
        ("zip.tar", "zip.tar cannot be read as a tar file .* has to be unpacked"),
        ("text.tar", "text.tar cannot be read as a tar file"),
        ("empty.tar", "holds no labelled image; needed are members such as 0001.jpg"),
        ("twice.tar", "twice.tar holds a.png twice"),
        ("bad.tar", "bad.tar: a.json holds no label"),
    ],
)
def test_what_is_no_set_of_shards_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    shard(tmp_path / "0.tar", samples(range(2)))
    shard(tmp_path / "zip.tar", samples(range(2)), "w:gz")
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    shard(tmp_path / "empty.tar", {"a.txt": b"x"})
    again = {"a.png": b"", "a.cls": b"1", "b.png": b"", "b.cls": b"1", "./a.png": b""}
    shard(tmp_path / "twice.tar", again)
    with tarfile.open(tmp_path / "twice.tar", "a") as tar:
        for name in ("a.png", "a.cls"):
            header = tarfile.TarInfo(name)
            header.size = 1
            tar.addfile(header, io.BytesIO(b"1"))
    shard(tmp_path / "bad.tar", {"a.png": b"", "a.json": b"{}"})
    with pytest.raises(InputError, match=message):
        listed(f"{tmp_path}/{pattern}")
