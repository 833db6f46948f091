"""The files of a Ray that this process started, and the processes that write them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE = 3.0  # seconds for Ray's processes to end by themselves; then they are killed
WAIT = 0.02


def processes_of(session: Path) -> list[psutil.Process]:
    """Find the processes of a session that this process started: Ray's servers, and all of theirs.

    Ray's servers have the session's name among their arguments. Later its workers may be nobody's
    children: on a busy machine Ray kills the server that would end them.
    """
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            if any(session.name in argument for argument in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


def remove(session: Path, processes: Sequence[psutil.Process], patience: float = PATIENCE) -> None:
    """Remove a session's files once its processes have ended, as they write to their last.

    `processes` are as `processes_of` found them before Ray was left. One that Ray started at the
    last moment is not among them: where a file has come meanwhile, the rest is removed again.
    """
    began = time.monotonic()
    while (left := _running(processes)) and time.monotonic() - began < patience:
        time.sleep(WAIT)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    shutil.rmtree(session, ignore_errors=True)
    while (session.exists() or _running(left)) and time.monotonic() - began < 2 * patience:
        time.sleep(WAIT)
        shutil.rmtree(session, ignore_errors=True)


def _running(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
