"""Small runs from outside, and what can be done to their processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.runs.helpers import events, start

LIMIT = 300.0  # seconds; nothing here may wait for ever


@contextmanager
def running(out: Path, *arguments: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A small run, and the end of all that it started."""
    process = start(out, *arguments, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Until something has happened, or the run is over; returns whether it has."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if happened():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    raise AssertionError(f"nothing happened for {LIMIT:g} s")


def count(run_dir: Path, *kinds: str) -> int:
    """Events of some kinds so far."""
    return len(events(run_dir, *kinds)) if (run_dir / "events.jsonl").exists() else 0


def trial_processes(driver: int) -> list[psutil.Process]:
    """The processes of a run that are at work on a trial."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "Trainable" in " ".join(process.cmdline()):
                found.append(process)
    return found
