"""Files on any filesystem: whole or not at all; and a run's copy there."""

from __future__ import annotations

import io
import os
import shutil
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from errors import InputError
from tests.tune.storage.copies import all_of, content_of, files_in, journal, mirror_of, put, run_in
from tune.storage import mirror as module
from tune.storage.mirror import Mirror, mirrored, place_of_copy
from tune.storage.storage import Storage


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


# A run's copy


@pytest.mark.parametrize("place", ["{out}", "{out}/x/..", "file://{out}", "{link}"])
def test_a_run_is_not_copied_onto_itself(tmp_path: Path, place: str) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    out.mkdir()
    link.symlink_to(out)
    with pytest.raises(InputError, match=r"--storage .*: is --out; needed is another folder"):
        place_of_copy(out / "food", place.format(out=out, link=link))
    for other in ("copy", "out/food-2"):
        assert place_of_copy(out / "food", str(tmp_path / other)).path == f"{tmp_path}/{other}/food"


@pytest.mark.parametrize(
    "place", ["{run}", "{run}/below", "{run}/x/../y", "file://{run}", "{link}"]
)
def test_a_run_is_not_copied_into_itself(tmp_path: Path, place: str) -> None:
    run, link = tmp_path / "out" / "food", tmp_path / "link"
    run.mkdir(parents=True)
    link.symlink_to(run)
    with pytest.raises(InputError, match=r"--storage .*: the copy would lie in the run") as caught:
        place_of_copy(run, place.format(run=run, link=link))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["{top}", "file://{top}", "{link}"])
def test_a_copy_does_not_hold_the_run(tmp_path: Path, place: str) -> None:
    top, link = tmp_path / "top", tmp_path / "link"
    top.mkdir()
    link.symlink_to(top)
    with pytest.raises(InputError, match=r"--storage .*: the run would lie in its copy") as caught:
        place_of_copy(top / "food" / "out" / "food", place.format(top=top, link=link))
    assert "\n" not in str(caught.value)


def test_the_copy_follows_what_changes_and_what_goes(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    mirror = mirror_of(here, folder)
    mirror.copy()
    assert sorted(folder.files()) == ["events.jsonl", "final_fits/a.json"]
    (here / "events.jsonl").write_text("more events")
    (here / "final_fits" / "a.json").unlink()
    mirror.copy()
    assert folder.files() == ["events.jsonl"]
    assert content_of(folder, "events.jsonl") == b"more events"
    assert mirror.failure is None


def test_a_run_goes_on_elsewhere_from_its_copy(folder: Storage, tmp_path: Path) -> None:
    put(folder, "checkpoints/1.pt", b"stays where trials find it")
    mirror_of(run_in(tmp_path / "one"), folder).copy()
    other = tmp_path / "other"
    mirror_of(other, folder).fetch(resume=True)
    assert files_in(other) == {"events.jsonl", "final_fits/a.json"}
    assert (other / "events.jsonl").read_text() == journal(0)
    assert (folder / "checkpoints").files() == ["1.pt"]


def test_a_local_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    there = Storage.at(tmp_path / "copy")
    mirror_of(run_in(tmp_path / "one"), there).copy()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        InputError, match=r"^--out: cannot write to .*/file/run.*: Not a dir"
    ) as told:
        mirror_of(tmp_path / "file" / "run", there).fetch(resume=True)
    assert there.path not in str(told.value)


def test_a_copy_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Storage.at(tmp_path / "copy")
    mirror_of(run_in(tmp_path / "one"), there).copy()
    reading = Storage.reading

    def fail(storage: Storage, name: str) -> AbstractContextManager[Any]:
        if name != "events.jsonl":
            raise OSError("the store is away")
        return reading(storage, name)

    monkeypatch.setattr(Storage, "reading", fail)
    with pytest.raises(InputError, match=r"^--storage: cannot read .*/copy: the store is away"):
        mirror_of(tmp_path / "other", there).fetch(resume=True)


def test_what_the_newer_copy_lacks_goes(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    (here / "duplicates.csv").write_text("stale")
    mirror_of(run_in(tmp_path / "other", journal(0, 1)), folder).copy()
    before = files_in(here)
    mirror_of(here, folder).fetch(resume=True)
    assert files_in(here) == before - {"duplicates.csv"}
    assert (here / "events.jsonl").read_text() == journal(0, 1)


def test_what_lies_where_no_run_was_stays(tmp_path: Path) -> None:
    here, there = tmp_path / "run", Storage.at(tmp_path / "copy")
    mirror_of(run_in(tmp_path / "other"), there).copy()
    here.mkdir()
    (here / "photo.jpg").write_text("somebody's")
    mirror_of(here, there).fetch(resume=True)
    assert files_in(here) == {"events.jsonl", "final_fits/a.json", "photo.jpg"}


def test_the_first_copy_removes_what_is_not_here_any_more(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    for name in ("duplicates.csv", "winners/a.safetensors", "checkpoints/7.pt"):
        put(folder, name, b"older")
    mirror_of(here, folder).copy()
    assert sorted(folder.files()) == ["checkpoints/7.pt", "events.jsonl", "final_fits/a.json"]


def test_a_copy_stays_as_it_is_where_there_is_no_run_here(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    mirror = mirror_of(here, there)
    mirror.copy()
    before = all_of(there)
    shutil.rmtree(here)
    mirror.copy()
    here.mkdir()
    (here / "photo.jpg").write_text("somebody's")
    mirror_of(here, there).copy()
    assert all_of(there) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(
    folder: Storage, tmp_path: Path, resume: bool
) -> None:
    put(folder, "cats/1.jpg", b"somebody's")
    with pytest.raises(InputError, match=r"--storage: .*holds files, and no run") as caught:
        mirror_of(run_in(tmp_path / "run"), folder).fetch(resume)
    assert "\n" not in str(caught.value)


TORN = '{"event": "trial_sta'


@pytest.mark.parametrize("torn", ["", TORN])
@pytest.mark.parametrize("cut", ["", TORN])
def test_a_machine_that_comes_back_takes_what_another_has_done_since(
    torn: str, cut: str, tmp_path: Path
) -> None:
    here, there = run_in(tmp_path / "run", journal(0) + torn), Storage.at(tmp_path / "copy")
    mirror_of(run_in(tmp_path / "other", journal(0, 1) + cut), there).copy()
    put(there, "final_fits/a.json", b"newer")
    mirror_of(here, there).fetch(resume=True)
    assert (here / "events.jsonl").read_text() == journal(0, 1) + cut
    assert (here / "final_fits" / "a.json").read_text() == "newer"


@pytest.mark.parametrize("torn", ["", TORN])
@pytest.mark.parametrize(
    "copy", ["", TORN, journal(), journal() + TORN, journal(0), journal(0) + TORN, journal(7)[:-9]]
)
def test_a_run_that_is_ahead_of_its_copy_goes_on_as_it_is(
    torn: str, copy: str, tmp_path: Path
) -> None:
    here, there = run_in(tmp_path / "run", journal(0) + torn), Storage.at(tmp_path / "copy")
    put(there, "events.jsonl", copy.encode())
    put(there, "final_fits/a.json", b"older")
    mirror_of(here, there).fetch(resume=True)
    assert (here / "events.jsonl").read_text() == journal(0) + torn
    assert (here / "final_fits" / "a.json").read_text() == "final_fits/a.json"


def test_what_was_refused_before_its_first_trial_gives_way_to_a_run(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run", journal() * 2), Storage.at(tmp_path / "copy")
    put(there, "events.jsonl", journal(0).encode())
    mirror_of(here, there).fetch(resume=True)
    assert (here / "events.jsonl").read_text() == journal(0)


def test_a_run_that_two_machines_went_on_with_is_refused_in_one_line(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run", journal(0, 1)), Storage.at(tmp_path / "copy")
    mirror_of(run_in(tmp_path / "other", journal(0, 2, 3)), there).copy()
    before = all_of(there)
    with pytest.raises(InputError, match="each have events that the other lacks") as caught:
        mirror_of(here, there).fetch(resume=True)
    assert str(here) in str(caught.value)
    assert there.path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (here / "events.jsonl").read_text() == journal(0, 1)
    assert all_of(there) == before


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_second_start_without_resume_touches_nothing(where: str, tmp_path: Path) -> None:
    here, there = tmp_path / "run", Storage.at(tmp_path / "copy")
    put(there, "checkpoints/9.pt", b"young")
    if where == "here":
        run_in(here)
    else:
        put(there, "events.jsonl", journal(0).encode())
    before, mine = all_of(there), sorted(here.rglob("*"))
    refused = "already holds a run; --resume continues it, --name starts another"
    with (
        pytest.raises(InputError, match=refused),
        mirrored(here, there, False, Console(quiet=True)),
    ):
        pass
    assert all_of(there) == before
    assert sorted(here.rglob("*")) == mine


def test_a_damaged_copy_is_told_with_its_line(tmp_path: Path) -> None:
    there = Storage.at(tmp_path / "copy")
    put(there, "events.jsonl", (journal(0) + "{]\n").encode())
    with pytest.raises(InputError, match=r"--storage: .*events.jsonl: line 3 is damaged"):
        mirror_of(tmp_path / "run", there).fetch(resume=True)


def test_a_storage_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    mirror = mirror_of(run_in(tmp_path / "run"), Storage.at(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="--storage: cannot write to"), mirror:
        pass


def test_a_storage_that_fails_in_between_is_told_and_tried_again(tmp_path: Path) -> None:
    here, place = run_in(tmp_path / "run"), tmp_path / "copy"
    console = Console(file=io.StringIO(), width=200)
    with mirrored(here, Storage.at(place), True, console):
        place.rmdir()
        place.write_text("in the way")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("warning: --storage: the copy is not up to date")
    place.unlink()
    mirror = mirror_of(here, Storage.at(place))
    mirror.copy()
    assert mirror.failure is None
    assert len(Storage.at(place).files()) == 2


def test_copies_that_fail_are_told_once_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    tries, writing = threading.Semaphore(0), Storage.writing

    def fail(storage: Storage, name: str) -> AbstractContextManager[Any]:
        if name == ".writable":
            return writing(storage, name)
        tries.release()
        raise OSError("the store is away")

    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(Storage, "writing", fail)
    with Mirror(run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), console):
        for _ in range(5):
            tries.acquire()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text == ("warning: --storage: copying fails and is tried again: the store is away\n")
