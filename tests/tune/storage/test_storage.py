"""Files on any filesystem: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from errors import InputError
from tests.tune.storage.copies import content_of, put
from tune.storage.storage import Storage, inside


def test_what_is_written_can_be_read_listed_and_deleted(folder: Storage) -> None:
    assert list(folder.listing()) == []
    put(folder, "a", b"one")
    put(folder, "below/b", b"two")
    put(folder, "a", b"three")
    assert content_of(folder, "a") == b"three"
    assert content_of(folder / "below", "b") == b"two"
    assert sorted(folder.listing()) == ["a", "below/b"]
    for _ in range(2):  # what is not there need not go
        folder.delete("a")
    assert list(folder.listing()) == ["below/b"]
    with pytest.raises(FileNotFoundError), folder.reading("a"):
        pass


def test_a_block_that_fails_leaves_what_was_there(folder: Storage) -> None:
    put(folder, "a", b"whole")

    def fail() -> None:
        with folder.writing("a") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert content_of(folder, "a") == b"whole"
    assert list(folder.listing()) == ["a"]


def test_torch_saves_and_loads_there(folder: Storage) -> None:
    with folder.writing("x.pt") as file:
        torch.save({"x": torch.arange(5)}, file)
    with folder.reading("x.pt") as file:
        assert torch.load(file, weights_only=True)["x"].tolist() == [0, 1, 2, 3, 4]


def test_the_end_of_a_file_is_read_without_the_rest(folder: Storage) -> None:
    put(folder, "a", b"weights and a tail")
    with folder.reading("a") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 4)
        assert (size, file.read()) == (18, b"tail")


def test_a_relative_path_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Storage.at("results")
    monkeypatch.chdir("/")
    assert place.path == str(tmp_path / "results")


@pytest.mark.parametrize("url", ["ftp://host/runs", "s3://", "://"])
def test_urls_that_no_filesystem_takes_are_refused_in_one_line(url: str) -> None:
    with pytest.raises(InputError, match="--storage") as caught:
        Storage.at(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "below"),
    [
        ("/shared/runs", "/shared/runs/a"),
        ("runs/?/", "runs/?/a"),
        ("s3://bucket/runs/", "s3://bucket/runs/a"),
        ("s3://bucket/runs?region=eu&scheme=http", "s3://bucket/runs/a?region=eu&scheme=http"),
    ],
)
def test_a_folder_in_a_place_keeps_its_urls_options(place: str, below: str) -> None:
    assert inside(place, "a") == below
