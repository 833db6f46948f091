"""A run's copy: of what it is made, and in what order."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.tune.storage.copies import (
    OTHERS,
    SMALL,
    WEIGHTS,
    Gated,
    all_of,
    content_of,
    copy,
    go_on,
    journal,
    put,
    run_in,
    whole_run_in,
)
from tune.storage.copier import Copier
from tune.storage.fetch import fetch
from tune.storage.storage import Storage


@pytest.fixture
def noted(tmp_path: Path) -> Gated:
    """An empty folder that notes what is written there."""
    return Gated.of(Storage.at(tmp_path / "copy"), tmp_path)


def test_only_what_has_changed_is_copied(tmp_path: Path, noted: Gated) -> None:
    here = run_in(tmp_path / "run")
    copier = copy(here, noted)
    noted.forget()
    go_on(copier)
    assert noted.written == []
    os.utime(here / "events.jsonl", (0, 0))
    go_on(copier)
    assert noted.written == ["events.jsonl"]


def test_the_journal_is_copied_first_and_large_files_last(tmp_path: Path, noted: Gated) -> None:
    copy(whole_run_in(tmp_path / "run"), noted)
    assert noted.written == [*SMALL, "optuna.journal", WEIGHTS, OTHERS]


def test_no_result_lies_beside_the_weights_of_another(tmp_path: Path, noted: Gated) -> None:
    """Wherever the copy is cut off."""
    here = whole_run_in(tmp_path / "run")
    copier = copy(here, noted)
    (here / WEIGHTS).write_text("other weights")
    (here / "final_fits" / "a.json").write_text("other result")
    for _ in copier.copy():
        found = all_of(noted)
        if found["final_fits/a.json"] == b"other result":
            assert found.get(WEIGHTS) in (None, b"other weights")
    assert found[WEIGHTS] == b"other weights"


def test_a_resumed_run_copies_only_what_the_copy_lacks(folder: Storage, tmp_path: Path) -> None:
    here, noted = whole_run_in(tmp_path / "run"), Gated.of(folder, tmp_path)
    copy(here, noted)
    noted.forget()
    copy(here, noted)
    assert noted.written == SMALL
    assert content_of(folder, WEIGHTS) == WEIGHTS.encode()


@pytest.mark.parametrize("change", ["size", "time"])
def test_what_differs_from_its_copy_is_copied(tmp_path: Path, noted: Gated, change: str) -> None:
    here = whole_run_in(tmp_path / "run")
    copy(here, noted)
    noted.forget()
    new = "longer than it was" if change == "size" else WEIGHTS.upper()
    (here / WEIGHTS).write_text(new)
    when = 1 if change == "size" else time.time() + 60
    os.utime(here / WEIGHTS, (when, when))
    copier = copy(here, noted)
    assert noted.written == [*SMALL, WEIGHTS]
    assert content_of(noted, WEIGHTS) == new.encode()
    go_on(copier)
    assert noted.written == [*SMALL, WEIGHTS]


def test_what_was_fetched_is_not_copied_back(folder: Storage, tmp_path: Path) -> None:
    copy(whole_run_in(tmp_path / "run"), folder)
    noted, other = Gated.of(folder, tmp_path), tmp_path / "other"
    copier = Copier(other, noted, fetch(other, noted, resume=True))
    go_on(copier)
    assert noted.written == []
    (other / WEIGHTS).unlink()
    go_on(copier)
    assert WEIGHTS not in folder.listing()


def test_the_copy_follows_what_changes_and_what_goes(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    copier = copy(here, folder)
    assert sorted(folder.listing()) == ["events.jsonl", "final_fits/a.json"]
    (here / "events.jsonl").write_text(journal(0, 1))
    (here / "final_fits" / "a.json").unlink()
    go_on(copier)
    assert list(folder.listing()) == ["events.jsonl"]
    assert content_of(folder, "events.jsonl") == journal(0, 1).encode()


def test_a_copy_that_failed_is_made_in_the_end(tmp_path: Path) -> None:
    here, place = run_in(tmp_path / "run"), tmp_path / "copy"
    place.write_text("in the way")
    copier = Copier(here, Storage.at(place))
    with pytest.raises(OSError, match=str(place)):
        go_on(copier)
    place.unlink()
    go_on(copier)
    assert len(Storage.at(place).listing()) == 2


def test_the_first_copy_removes_what_is_not_here_any_more(folder: Storage, tmp_path: Path) -> None:
    here = run_in(tmp_path / "run")
    for name in ("duplicates.csv", "winners/a.safetensors", "checkpoints/7.pt"):
        put(folder, name, b"older")
    copy(here, folder)
    assert sorted(folder.listing()) == ["checkpoints/7.pt", "events.jsonl", "final_fits/a.json"]


def test_a_copy_stays_as_it_is_where_there_is_no_run_here(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    copier = copy(here, there)
    before = all_of(there)
    shutil.rmtree(here)
    go_on(copier)
    here.mkdir()
    (here / "photo.jpg").write_text("somebody's")
    copy(here, there)
    assert all_of(there) == before
