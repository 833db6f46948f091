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
from typing import Any

import pandas as pd
import psutil

from tests.runs.helpers import events, start
from tune.trials.checkpoints import SOUND

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


def check_whole(run_dir: Path) -> None:
    """A table without gaps, no trial lost, failed or repeated; what moved went on where it was."""
    table = pd.read_csv(run_dir / "accuracy_table.csv")
    assert table.test_accuracy.notna().tolist() == [True] * 3
    ends = events(run_dir, "trial_ended")
    assert [(e["status"], e["reason"]) for e in ends if e["status"] not in SOUND] == []
    told = [(e["cell"], e["trial"]) for e in ends]
    assert len(told) == len(set(told)) == 1 + 5 + 1
    last: dict[tuple[str, int], dict[str, Any]] = {}
    for report in events(run_dir, "trial_report"):
        before = last.get(key := (report["cell"], report["trial"]))
        if before and before["node"] != report["node"] and "frozen" not in report["cell"]:
            assert report["taken_up"] > 0  # on another machine, from its last rung
        last[key] = report


def check_went_on(run_dir: Path) -> None:
    """Whole, though one of two machines with room for trials was lost in its midst."""
    check_whole(run_dir)
    (view,) = events(run_dir, "nodes")
    assert len(view["nodes"]) == 3  # the head has no room for trials
    reports = events(run_dir, "trial_report")
    assert len({report["node"] for report in reports}) == 2
    assert len({report["node"] for report in reports[-3:]}) == 1
