"""A run's copy: when it is made, of what, and in what order."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from run_search import ROOT
from tests.tune.storage.copies import content_of, journal, mirror_of, run_in
from tune.storage import mirror as module
from tune.storage.mirror import mirrored
from tune.storage.storage import Storage

WEIGHTS, OTHERS = "winners/a.safetensors", "winners/b.safetensors"
SMALL = ["events.jsonl", "best_configs.yaml", "final_fits/a.json", "trials.csv"]


class Store:
    """Tells what is written; weights wait for the gate."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.reached, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self._writing = Storage.writing

    @contextmanager
    def writing(self, storage: Storage, name: str) -> Iterator[IO[bytes]]:
        if name == WEIGHTS:
            self.reached.set()
            assert self.gate.wait(20)
        with self._writing(storage, name) as file:
            yield file
        if name != ".writable":
            self.written.append(name)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()
    monkeypatch.setattr(
        Storage, "writing", lambda storage, name: Store.writing(store, storage, name)
    )
    yield store
    store.gate.set()


def whole_run_in(path: Path) -> Path:
    """A run's directory with small files and large ones."""
    for name in (*SMALL[1:], WEIGHTS, OTHERS, "optuna.journal"):
        (run_in(path) / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(name)
        os.utime(path / name, (1, 1))
    return path


def told_to() -> Console:
    return Console(file=io.StringIO(), width=200)


def told(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_only_what_has_changed_is_copied(tmp_path: Path) -> None:
    here, there = run_in(tmp_path / "run"), tmp_path / "copy"
    mirror = mirror_of(here, Storage.at(there))
    mirror.copy()
    before = {path: path.stat().st_ino for path in there.rglob("*") if path.is_file()}
    mirror.copy()
    assert {path: path.stat().st_ino for path in before} == before
    os.utime(here / "events.jsonl", (0, 0))
    mirror.copy()
    assert (there / "events.jsonl").stat().st_ino != before[there / "events.jsonl"]


def test_the_journal_is_copied_first_and_large_files_last(tmp_path: Path, store: Store) -> None:
    mirror_of(whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")).copy()
    assert store.written == [*SMALL, "optuna.journal", WEIGHTS, OTHERS]


# At the start


def test_a_resumed_run_copies_only_what_the_copy_lacks(
    folder: Storage, tmp_path: Path, store: Store
) -> None:
    here = whole_run_in(tmp_path / "run")
    mirror_of(here, folder).copy()
    store.written.clear()
    mirror_of(here, folder).copy()
    assert store.written == SMALL
    assert content_of(folder, WEIGHTS) == WEIGHTS.encode()


@pytest.mark.parametrize("change", ["size", "time"])
def test_what_differs_from_its_copy_is_copied(tmp_path: Path, store: Store, change: str) -> None:
    here, there = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    mirror_of(here, there).copy()
    store.written.clear()
    new = "longer than it was" if change == "size" else WEIGHTS.upper()
    (here / WEIGHTS).write_text(new)
    when = 1 if change == "size" else time.time() + 60
    os.utime(here / WEIGHTS, (when, when))
    mirror = mirror_of(here, there)
    mirror.copy()
    assert store.written == [*SMALL, WEIGHTS]
    assert content_of(there, WEIGHTS) == new.encode()
    mirror.copy()
    assert store.written == [*SMALL, WEIGHTS]


def test_what_was_fetched_is_not_copied_back(folder: Storage, tmp_path: Path, store: Store) -> None:
    mirror_of(whole_run_in(tmp_path / "run"), folder).copy()
    other = mirror_of(tmp_path / "other", folder)
    store.written.clear()
    other.fetch(resume=True)
    other.copy()
    assert store.written == []
    (tmp_path / "other" / WEIGHTS).unlink()
    other.copy()
    assert WEIGHTS not in folder.files()


# At the end


def interrupt(here: Path, there: Storage, console: Console, store: Store | None = None) -> float:
    """Seconds that an interrupted run takes to end, once the store is reached, if one is given."""
    began = 0.0

    def interrupted() -> None:
        nonlocal began
        with mirrored(here, there, True, console):
            (here / "last.csv").write_text("word")
            if store is not None:
                assert store.reached.wait(20)
            began = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    return time.monotonic() - began


def test_the_last_copy_is_made_at_the_end_of_an_interrupted_run(tmp_path: Path) -> None:
    here, there, console = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), told_to()
    interrupt(here, there, console)
    assert content_of(there, "last.csv") == b"word"
    assert {WEIGHTS, OTHERS} <= set(there.files())
    assert told(console) == ""


@pytest.mark.parametrize("copying", [False, True])
def test_an_interrupted_run_copies_small_files_and_says_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, copying: bool
) -> None:
    monkeypatch.setattr(module, "LAST", 1.0)
    if copying:
        monkeypatch.setattr(module, "INTERVAL", 0.01)
    here, there, console = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), told_to()
    store.gate.clear()
    assert interrupt(here, there, console, store if copying else None) < 5
    assert set(there.files()) == {*SMALL, "last.csv", "optuna.journal"}
    assert told(console) == (
        "warning: --storage: 2 files are not copied yet; --resume copies them\n"
    )
    store.gate.set()
    with mirrored(here, there, True, console):
        pass
    assert {WEIGHTS, OTHERS} <= set(there.files())


def test_a_signal_in_the_last_copy_of_a_run_that_has_ended_bounds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(module, "LAST", 0.5)
    here, there, console = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), told_to()
    store.gate.clear()

    def interrupt_the_end() -> None:
        assert store.reached.wait(20)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    other = threading.Thread(target=interrupt_the_end)
    other.start()
    with pytest.raises(KeyboardInterrupt), mirrored(here, there, True, console):
        pass
    other.join()
    assert "2 files are not copied yet" in told(console)


@pytest.mark.parametrize("failure", [None, ValueError])
def test_all_is_copied_at_any_other_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, failure: type[Exception] | None
) -> None:
    monkeypatch.setattr(module, "LAST", 0.0)
    here, there = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")

    def ending() -> None:
        with mirrored(here, there, True, Console(quiet=True)):
            (here / "last.csv").write_text("word")
            if failure:
                raise failure

    if failure:
        with pytest.raises(failure):
            ending()
    else:
        ending()
    assert set(there.files()) == {*SMALL, "last.csv", "optuna.journal", WEIGHTS, OTHERS}


def test_a_copy_stops_between_files_once_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    """So that the last copy, which begins with the journal, need not wait for all of it."""
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    here, there = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    store.gate.clear()
    with mirror_of(here, there) as mirror:
        assert store.reached.wait(20)
        store.written.clear()
        (here / "events.jsonl").write_text(journal(0, 1))
        threading.Thread(target=lambda: mirror._done.wait() and store.gate.set()).start()
    assert store.written == [WEIGHTS, "events.jsonl", OTHERS]


def test_no_result_lies_beside_the_weights_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(module, "LAST", 1.0)
    here, there = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    mirror_of(here, there).copy()
    (here / WEIGHTS).write_text("other weights")
    (here / "final_fits" / "a.json").write_text("other result")
    store.gate.clear()
    interrupt(here, there, Console(quiet=True))
    assert content_of(there, "final_fits/a.json") == b"other result"
    assert WEIGHTS not in there.files()


HELD_UP = """
import atexit, socket, threading, time
from pyarrow.fs import S3FileSystem
from run_search import leave
from tune.storage.mirror import COPYING

silent = socket.create_server(("127.0.0.1", 0))
host, port = silent.getsockname()
where = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
store = S3FileSystem(access_key="key", secret_key="secret", **where)
atexit.register(print, "others end")
threading.Thread(
    target=store.get_file_info, args=(["runs/small"],), name=COPYING, daemon=True
).start()
silent.accept()
print("leaves", flush=True)
leave(130)
"""


def test_an_interrupted_process_does_not_wait_for_its_uploads() -> None:
    command = [sys.executable, "-c", HELD_UP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "leaves\n"
        began = time.monotonic()
        rest, code = process.stdout.read(), process.wait()
    assert time.monotonic() - began < 4
    assert (rest, code) == ("others end\n", 130)


def test_the_copy_is_made_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    here, there = run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")
    with mirror_of(here, there) as mirror:
        while "events.jsonl" not in there.files():
            mirror._done.wait(0.01)


def test_an_error_of_any_kind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread one that is not kept would be lost."""

    def fail(storage: Storage, name: str) -> None:
        raise UnicodeError("a name that no store takes")

    console = told_to()
    with mirrored(run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), True, console):
        monkeypatch.setattr(Storage, "writing", fail)
    assert told(console) == (
        "warning: --storage: the copy is not up to date: a name that no store takes\n"
    )
