"""A run that goes on from its copy: which of the two is newer, and what is brought."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from tests.tune.storage.copies import all_of, copy, files_in, journal, put, run_in
from tune.storage.fetch import fetch
from tune.storage.storage import Storage


def test_a_run_goes_on_elsewhere_from_its_copy(folder: Storage, tmp_path: Path) -> None:
    put(folder, "checkpoints/1.pt", b"stays where trials find it")
    copy(run_in(tmp_path / "one"), folder)
    other = tmp_path / "other"
    fetch(other, folder, resume=True)
    assert files_in(other) == {"events.jsonl", "final_fits/a.json"}
    assert (other / "events.jsonl").read_text() == journal(0)
    assert list((folder / "checkpoints").listing()) == ["1.pt"]


def test_a_local_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    there = Storage.at(tmp_path / "copy")
    copy(run_in(tmp_path / "one"), there)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        InputError, match=r"^--out: cannot write to .*/file/run.*: Not a dir"
    ) as told:
        fetch(tmp_path / "file" / "run", there, resume=True)
    assert there.path not in str(told.value)


def test_a_copy_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Storage.at(tmp_path / "copy")
    copy(run_in(tmp_path / "one"), there)
    reading = Storage.reading

    def fail(storage: Storage, name: str) -> AbstractContextManager[Any]:
        if name != "events.jsonl":
            raise OSError("the store is away")
        return reading(storage, name)

    monkeypatch.setattr(Storage, "reading", fail)
    with pytest.raises(InputError, match=r"^--storage: cannot read .*/copy: the store is away"):
        fetch(tmp_path / "other", there, resume=True)


def test_what_the_newer_copy_lacks_goes(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    (here / "duplicates.csv").write_text("stale")
    copy(run_in(tmp_path / "other", journal(0, 1)), folder)
    before = files_in(here)
    fetch(here, folder, resume=True)
    assert files_in(here) == before - {"duplicates.csv"}
    assert (here / "events.jsonl").read_text() == journal(0, 1)


def test_what_lies_where_no_run_was_stays(tmp_path: Path) -> None:
    here, there = tmp_path / "run", Storage.at(tmp_path / "copy")
    copy(run_in(tmp_path / "other"), there)
    here.mkdir()
    (here / "photo.jpg").write_text("somebody's")
    fetch(here, there, resume=True)
    assert files_in(here) == {"events.jsonl", "final_fits/a.json", "photo.jpg"}


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_refused(
    folder: Storage, tmp_path: Path, resume: bool
) -> None:
    put(folder, "cats/1.jpg", b"somebody's")
    with pytest.raises(InputError, match=r"--storage: .*holds files, and no run") as caught:
        fetch(run_in(tmp_path / "run"), folder, resume=resume)
    assert "\n" not in str(caught.value)


TORN = '{"event": "trial_sta'


@pytest.mark.parametrize("torn", ["", TORN])
@pytest.mark.parametrize("cut", ["", TORN])
def test_a_machine_that_comes_back_takes_what_another_has_done_since(
    torn: str, cut: str, tmp_path: Path
) -> None:
    here, there = run_in(tmp_path / "run", journal(0) + torn), Storage.at(tmp_path / "copy")
    copy(run_in(tmp_path / "other", journal(0, 1) + cut), there)
    put(there, "final_fits/a.json", b"newer")
    fetch(here, there, resume=True)
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
    fetch(here, there, resume=True)
    assert (here / "events.jsonl").read_text() == journal(0) + torn
    assert (here / "final_fits" / "a.json").read_text() == "final_fits/a.json"


def test_what_was_refused_before_its_first_trial_gives_way_to_a_run(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run", journal() * 2), Storage.at(tmp_path / "copy")
    put(there, "events.jsonl", journal(0).encode())
    fetch(here, there, resume=True)
    assert (here / "events.jsonl").read_text() == journal(0)


def test_a_run_that_two_machines_went_on_with_is_refused_in_one_line(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run", journal(0, 1)), Storage.at(tmp_path / "copy")
    copy(run_in(tmp_path / "other", journal(0, 2, 3)), there)
    before = all_of(there)
    with pytest.raises(InputError, match="each have events that the other lacks") as caught:
        fetch(here, there, resume=True)
    assert str(here) in str(caught.value)
    assert there.path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (here / "events.jsonl").read_text() == journal(0, 1)
    assert all_of(there) == before


def test_a_damaged_copy_is_told_with_its_line(tmp_path: Path) -> None:
    there = Storage.at(tmp_path / "copy")
    put(there, "events.jsonl", (journal(0) + "{]\n").encode())
    with pytest.raises(InputError, match=r"--storage: .*events.jsonl: line 3 is damaged"):
        fetch(tmp_path / "run", there, resume=True)
