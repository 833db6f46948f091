"""A Ray's files go for good, although its processes write on while it ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tune.workers.session import processes_of, remove

WORKER = """
import pathlib, sys, time
logs, ends = pathlib.Path(sys.argv[1]) / "logs", time.monotonic() + float(sys.argv[2])
while time.monotonic() < ends:
    logs.mkdir(parents=True, exist_ok=True)
    (logs / str(time.time_ns())).touch()
"""
SERVER = """
import subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[2:]], stderr=subprocess.DEVNULL)
"""


@pytest.fixture
def session(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The files of a server, and of its worker that writes for so many seconds."""
    session = tmp_path / "session_2026"
    argument = f"--session-dir={session}"
    server = [sys.executable, "-c", SERVER, argument, WORKER, str(session), str(request.param)]
    other = [sys.executable, "-c", "input()"]  # no process of Ray's
    with (
        subprocess.Popen(other, stdin=subprocess.PIPE) as beside,
        subprocess.Popen(server) as process,
    ):
        while not (session / "logs").exists():
            time.sleep(0.02)
        workers = psutil.Process(process.pid).children()
        yield session
        process.kill()
        for worker in workers:
            with suppress(psutil.Error):
                worker.kill()
        assert beside.poll() is None
        beside.communicate(b"\n")


@pytest.mark.parametrize(
    ("session", "patience"),
    [(1.0, 30.0), (600.0, 0.2)],
    indirect=["session"],
)
def test_a_worker_that_outlives_its_server_leaves_no_file(session: Path, patience: float) -> None:
    """As where Ray's server is killed before it has ended its workers. One hangs."""
    server, worker = processes = processes_of(session)
    server.kill()
    remove(session, processes, patience)
    assert not session.exists()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("session", [600.0], indirect=True)
def test_another_sessions_processes_are_not_meant(session: Path, tmp_path: Path) -> None:
    assert processes_of(tmp_path / "session_2027") == []


def test_files_that_come_as_the_others_go_are_removed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that Ray started at the last moment."""
    plain, session, removed = shutil.rmtree, tmp_path / "session_2026", []

    def rmtree(path: Path, ignore_errors: bool) -> None:
        plain(path, ignore_errors=ignore_errors)
        if not removed:
            (session / "logs").mkdir(parents=True)
        removed.append(path)

    session.mkdir()
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    remove(session, [])
    assert removed == [session, session]
    assert not session.exists()
