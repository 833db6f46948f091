"""Files on any filesystem: whole or not at all; and a run's copy there."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from errors import InputError
from tests.object_store import object_store
from tune import storage as module
from tune.storage import Mirror, Storage, mirrored


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store("runs") as url:
        yield url


@pytest.fixture(params=["path", "file URL", "S3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder."""
    if request.param == "S3":
        url = request.getfixturevalue("bucket")
        return Storage.at(url) / f"{request.node.name}"
    place = tmp_path / "storage"
    return Storage.at(place if request.param == "path" else place.as_uri())


def put(folder: Storage, name: str, content: bytes) -> None:
    with folder.writing(name) as file:
        file.write(content)


def content_of(folder: Storage, name: str) -> bytes:
    with folder.reading(name) as file:
        return bytes(file.read())


def test_what_is_written_can_be_read_listed_and_deleted(folder: Storage) -> None:
    assert folder.files() == []
    put(folder, "a", b"one")
    put(folder, "below/b", b"two")
    put(folder, "a", b"three")
    assert content_of(folder, "a") == b"three"
    assert content_of(folder / "below", "b") == b"two"
    assert sorted(folder.files()) == ["a", "below/b"]
    for _ in range(2):  # what is not there need not go
        folder.delete("a")
    assert folder.files() == ["below/b"]
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
    assert folder.files() == ["a"]


def test_torch_saves_and_loads_there(folder: Storage) -> None:
    with folder.writing("x.pt") as file:
        torch.save({"x": torch.arange(5)}, file)
    with folder.reading("x.pt") as file:
        assert torch.load(file, weights_only=True)["x"].tolist() == [0, 1, 2, 3, 4]


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


# A run's copy


def run_in(path: Path) -> Path:
    """A run's directory, with what belongs into a copy and what doesn't."""
    for name in ("events.jsonl", "final_fits/a.json", "checkpoints/1.pt", "ray/x", ".lock",
                 "final_fits/.a.json.7.tmp"):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    return path


def test_the_copy_follows_what_changes_and_what_goes(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    mirror = Mirror(here, folder)
    mirror.copy()
    assert sorted(folder.files()) == ["events.jsonl", "final_fits/a.json"]
    (here / "events.jsonl").write_text("more events")
    (here / "final_fits" / "a.json").unlink()
    mirror.copy()
    assert folder.files() == ["events.jsonl"]
    assert content_of(folder, "events.jsonl") == b"more events"
    assert mirror.failure is None


def test_only_what_has_changed_is_copied(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run"), tmp_path / "copy"
    mirror = Mirror(here, Storage.at(there))
    mirror.copy()
    before = {path: path.stat().st_ino for path in there.rglob("*") if path.is_file()}
    mirror.copy()
    assert {path: path.stat().st_ino for path in before} == before
    os.utime(here / "events.jsonl", (0, 0))
    mirror.copy()
    assert (there / "events.jsonl").stat().st_ino != before[there / "events.jsonl"]


def test_a_run_goes_on_elsewhere_from_its_copy(folder: Storage, tmp_path: Path) -> None:
    put(folder, "checkpoints/1.pt", b"stays where trials find it")
    time.sleep(1.1)  # object stores count seconds
    Mirror(run_in(tmp_path / "one"), folder).copy()
    time.sleep(1.1)
    put(folder, "checkpoints/2.pt", b"of reports that the copied journal lacks")
    other = tmp_path / "other"
    Mirror(other, folder).fetch()
    found = {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    assert found == {"events.jsonl", "final_fits/a.json"}
    assert (other / "events.jsonl").read_text() == "events.jsonl"
    assert (folder / "checkpoints").files() == ["1.pt"]


def test_a_run_that_is_here_is_not_overwritten(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    put(folder, "events.jsonl", b"older")
    Mirror(here, folder).fetch()
    assert (here / "events.jsonl").read_text() == "events.jsonl"


def test_the_last_copy_is_made_at_the_end_even_of_a_run_that_failed(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")

    def interrupted() -> None:
        with mirrored(here, there, Console(quiet=True)):
            (here / "last").write_text("word")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content_of(there, "last") == b"word"


def test_the_copy_is_made_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    here, there = run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    with Mirror(here, there) as mirror:
        while "events.jsonl" not in there.files():
            mirror._done.wait(0.01)


def test_a_storage_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    mirror = Mirror(run_in(tmp_path / "run"), Storage.at(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="--storage: cannot write to"), mirror:
        pass


def test_a_storage_that_fails_in_between_is_told_and_tried_again(tmp_path: Path) -> None:
    here, place = run_in(tmp_path / "run"), tmp_path / "copy"
    console = Console(file=io.StringIO(), width=200)
    with mirrored(here, Storage.at(place), console):
        place.rmdir()
        place.write_text("in the way")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "warning: --storage: the copy is not up to date" in text
    place.unlink()
    mirror = Mirror(here, Storage.at(place))
    mirror.copy()
    assert mirror.failure is None
    assert len(Storage.at(place).files()) == 2
