"""A directory that holds a part of a run, or parts of two, is refused; nothing in it changes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import yaml

from errors import InputError
from records import FILES, FOLDERS, TABLES, Cell, JournalWriter, RunStarted, TrialStarted
from tests.tune.search.simulated import experiment
from tune.run_dir import RunDirectory

IDENTITY = {"model": "aaa", "data": "bbb"}
TRIAL = TrialStarted(Cell(10, "frozen"), 0, "default", {}, None)


def start(path: Path, resume: bool = True) -> RunDirectory:
    """Start a run, or resume it, to its first trial."""
    directory = RunDirectory(path, resume)
    resolved = directory.resolved(experiment(), IDENTITY)
    with closing(JournalWriter(directory.journal)) as journal:
        journal.write(RunStarted(bool(directory.events), 0, resolved["identity"], {}))
        directory.record(resolved)
        journal.write(TRIAL)
    return directory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory that holds a run."""
    return start(tmp_path / "run").path


def refused(path: Path, resume: bool = True) -> str:
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(InputError) as raised:
        RunDirectory(path, resume)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_journal_with_trials_needs_the_experiment_that_they_are_of(run: Path) -> None:
    file = run / "experiment.yaml"
    whole = yaml.safe_load(file.read_text())
    odd = ["", "\0\0\0", "[]", "name: x", "identity: 3", "name: [small\nmethods: }"]
    for key in ("identity", "methods", "earlier_methods"):
        odd += [yaml.safe_dump({**whole, key: value}) for value in (None, 3, [1])]
    for content in [b"\xca\xfe\xff", *map(str.encode, odd)]:
        file.write_bytes(content)
        line = refused(run)
        assert line.startswith(str(file)), content
        assert line.endswith("put it back, or --name starts another"), content
    file.unlink()
    assert refused(run).startswith(f"{file} is missing, and the run has trials; put it back")


def test_a_run_whose_journal_has_gone_is_not_overwritten(run: Path) -> None:
    journal = run / "events.jsonl"
    first, *_ = journal.read_text().splitlines(keepends=True)
    for resume in (True, False):
        for content in ("", None):
            journal.write_text("") if content is not None else journal.unlink()
            line = refused(run, resume)
            assert line.startswith(f"{journal} is missing or holds no trial, but experiment.yaml")
    journal.write_text(first)
    RunDirectory(run, False)  # it was killed before its first trial
    for folder in ("final_fits", "winners"):
        (run / folder).mkdir()
        RunDirectory(run, False)
        (run / folder / "file").touch()
        assert f"holds no trial, but {folder} is of a run" in refused(run, False)
        (run / folder / "file").unlink()


def test_the_journal_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    """Of one with the same settings, data and weights."""
    other = start(tmp_path / "other")
    own = (run / "events.jsonl").read_bytes()
    (run / "events.jsonl").write_bytes(other.journal.read_bytes())
    line = refused(run)
    assert line.startswith(f"{run / 'events.jsonl'} is of another run than {run}/experiment.yaml")
    (run / "events.jsonl").write_bytes(own.splitlines(keepends=True)[1])  # says not whose it is
    assert "is of another run" in refused(run)
    (run / "events.jsonl").write_bytes(own)
    start(run)
    start(run)


@pytest.mark.parametrize("name", [*FILES, *(table.file for table in TABLES)])
def test_a_folder_in_the_place_of_a_file_is_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=name), RunDirectory.locked(tmp_path, True):
        pass


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert refused(tmp_path).startswith(f"{tmp_path / name} is no folder; move it away")
