"""A run's copy while the run goes on, and at each of its ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from commands.resuming import PROGRAM
from errors import InputError
from tests.tune.storage.copies import (
    OTHERS,
    SMALL,
    WEIGHTS,
    Failing,
    Gated,
    all_of,
    content_of,
    copy,
    journal,
    put,
    quiet,
    run_in,
    said,
    wait_for,
    whole_run_in,
)
from tune.storage.mirror import mirrored, place_of_copy
from tune.storage.storage import Storage

ALL = {*SMALL, "last.csv", "optuna.journal", WEIGHTS, OTHERS}
OFTEN = 0.01  # seconds between copies


# Where it may lie


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


# At the start


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


def test_a_storage_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(storage: Storage, name: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Storage, "writing", refuse)
    mirror = mirrored(run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), True, quiet())
    with pytest.raises(InputError, match=r"--storage: cannot write to .*: Perm"), mirror:
        pass


# While the run goes on


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    return Gated.of(Storage.at(tmp_path / "copy"), tmp_path)


def test_the_copy_is_made_while_the_run_goes_on(tmp_path: Path) -> None:
    there = tmp_path / "copy"
    with mirrored(run_in(tmp_path / "run"), Storage.at(there), True, quiet(), OFTEN):
        wait_for(there / "events.jsonl")


def test_copies_that_fail_are_told_once_while_the_run_goes_on(tmp_path: Path) -> None:
    plain, console = Storage.at(tmp_path / "copy"), quiet()
    there = Failing(plain.filesystem, plain.path, tmp_path)
    (tmp_path / "away").touch()
    with mirrored(run_in(tmp_path / "run"), there, True, console, OFTEN):
        wait_for(tmp_path / "attempts", size=5)
        (tmp_path / "away").unlink()
    assert said(console) == (
        "warning: --storage: copying fails and is tried again: a name that no store takes\n"
    )
    assert content_of(plain, "events.jsonl") == journal(0).encode()


# At the end


def test_a_last_copy_that_fails_is_told(tmp_path: Path) -> None:
    plain, console = Storage.at(tmp_path / "copy"), quiet()
    there = Failing(plain.filesystem, plain.path, tmp_path)
    with mirrored(run_in(tmp_path / "run"), there, True, console):
        (tmp_path / "away").touch()
    assert said(console) == (
        "warning: --storage: the copy is not up to date: a name that no store takes\n"
    )


def interrupt(
    mirror: AbstractContextManager[None], here: Path, gated: Gated | None = None
) -> float:
    """Seconds that an interrupted run takes to end, once it reached the gate, if one is given."""
    began = 0.0

    def interrupted() -> None:
        nonlocal began
        with mirror:
            (here / "last.csv").write_text("word")
            if gated is not None:
                gated.wait()
            began = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    return time.monotonic() - began


def test_the_last_copy_is_made_at_the_end_of_an_interrupted_run(tmp_path: Path) -> None:
    here, there, console = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), quiet()
    interrupt(mirrored(here, there, True, console, last=60), here)
    assert set(there.listing()) == ALL
    assert said(console) == ""


@pytest.mark.parametrize("copying", [False, True])
def test_an_interrupted_run_copies_small_files_and_says_what_is_left(
    tmp_path: Path, gated: Gated, copying: bool
) -> None:
    here, console = whole_run_in(tmp_path / "run"), quiet()
    gated.close()
    mirror = mirrored(here, gated, True, console, OFTEN if copying else 60, last=4)
    assert interrupt(mirror, here, gated if copying else None) < 8
    assert set(gated.listing()) == ALL - {WEIGHTS, OTHERS}
    assert said(console) == (
        "warning: --storage: 2 files are not copied yet; --resume copies them\n"
    )
    gated.open()
    with mirrored(here, gated, True, console):
        pass
    assert set(gated.listing()) == ALL


def test_a_signal_in_the_last_copy_of_a_run_that_has_ended_bounds_it(
    tmp_path: Path, gated: Gated
) -> None:
    here, console = whole_run_in(tmp_path / "run"), quiet()
    gated.close()

    def interrupt_the_end() -> None:
        gated.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    other = threading.Thread(target=interrupt_the_end)
    other.start()
    with pytest.raises(KeyboardInterrupt), mirrored(here, gated, True, console, last=0.5):
        pass
    other.join()
    assert "2 files are not copied yet" in said(console)


@pytest.mark.parametrize("failure", [None, ValueError])
def test_all_is_copied_at_any_other_end(tmp_path: Path, failure: type[Exception] | None) -> None:
    here, there = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy")

    def ending() -> None:
        with mirrored(here, there, True, quiet(), last=0.0):
            (here / "last.csv").write_text("word")
            if failure:
                raise failure

    if failure:
        with pytest.raises(failure):
            ending()
    else:
        ending()
    assert set(there.listing()) == ALL


def test_a_copy_stops_between_files_once_the_run_ends(tmp_path: Path, gated: Gated) -> None:
    """So that the last copy, which begins with the journal, need not wait for all of it."""
    here = whole_run_in(tmp_path / "run")
    gated.close()
    with mirrored(here, gated, True, quiet(), OFTEN):
        gated.wait()
        gated.forget()
        (here / "events.jsonl").write_text(journal(0, 1))
        threading.Timer(1.0, gated.open).start()
    assert gated.written == [WEIGHTS, "events.jsonl", OTHERS]


def test_no_result_lies_beside_the_weights_of_another_after_an_interruption(
    tmp_path: Path, gated: Gated
) -> None:
    here = whole_run_in(tmp_path / "run")
    copy(here, gated)
    (here / WEIGHTS).write_text("other weights")
    (here / "final_fits" / "a.json").write_text("other result")
    gated.close()
    interrupt(mirrored(here, gated, True, quiet(), last=4), here)
    assert content_of(gated, "final_fits/a.json") == b"other result"
    assert WEIGHTS not in gated.listing()


def test_signals_to_the_whole_process_group_leave_the_copy_to_its_end(tmp_path: Path) -> None:
    here, there, console = whole_run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), quiet()
    with mirrored(here, there, True, console):
        for child in multiprocessing.active_children():
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(child.pid or 0, number)
    assert {WEIGHTS, OTHERS} <= set(there.listing())
    assert said(console) == ""


def test_a_copy_whose_process_died_is_told(tmp_path: Path) -> None:
    console = quiet()
    with mirrored(run_in(tmp_path / "run"), Storage.at(tmp_path / "copy"), True, console):
        for child in multiprocessing.active_children():
            child.kill()
    assert said(console) == ("warning: --storage: the copy is not up to date: its process died\n")


STARTS = """
import atexit, sys
from pathlib import Path
from tests.tune.storage.copies import Stuck, quiet
from tune.storage.mirror import mirrored
from tune.storage.storage import Storage

here, there, endpoint = sys.argv[1:]
plain = Storage.at(there)
atexit.register(print, "others end")
try:
    with mirrored(Path(here), Stuck(plain.filesystem, plain.path, endpoint), True, quiet(), 0.01):
        sys.stdin.readline()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("end", ["interrupted", "killed"])
def test_a_process_that_ends_does_not_wait_for_its_uploads(tmp_path: Path, end: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        places = [str(whole_run_in(tmp_path / "run")), str(tmp_path / "copy"), f"{host}:{port}"]
        with subprocess.Popen(
            [sys.executable, "-c", STARTS, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROGRAM.parent,
        ) as process:
            upload, _ = silent.accept()
            began = time.monotonic()
            if end == "killed":
                process.kill()
            assert process.stdout is not None
            rest, _ = process.communicate("go\n")
            expected = ("", -signal.SIGKILL) if end == "killed" else ("others end\n", 130)
            assert (rest, process.returncode) == expected
        assert time.monotonic() - began < 6
        upload.settimeout(10)
        while upload.recv(65536):  # the upload's process has ended as well
            pass
