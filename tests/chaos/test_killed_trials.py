"""A trial's process or its machine is lost: the trial goes on elsewhere, from where it was."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.chaos import LONG, times
from tests.chaos.processes import (
    LIMIT,
    check_went_on,
    check_whole,
    count,
    trial_processes,
)
from tests.runs.helpers import ROOT, events, run_quietly, small

RUNG = 2000  # of 6,000 samples; at 4,000 a trial cannot pause and writes no file
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("killing", range(times(1, 5)))
def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path: Path, killing: int) -> None:
    run_dir = tmp_path / "small"
    before: dict[tuple[str, int], int] = {}
    reported: list[int] = []

    def kill() -> None:
        while count(run_dir, "trial_report") < 3 + 2 * killing:
            time.sleep(0.02)
        while not before:
            while not (seen := halfway(run_dir)):
                time.sleep(0.02)
            stopped = trial_processes(os.getpid())
            each(stopped, psutil.Process.suspend)
            settle(run_dir)  # what they had sent comes first, however busy the machine is
            before.update({key: at for key, at in halfway(run_dir).items() if key in seen})
            reported.append(count(run_dir, "trial_report"))
            each(stopped, psutil.Process.kill if before else psutil.Process.resume)

    threading.Thread(target=kill, daemon=True).start()
    run_quietly(small("data.partitions=[100]", "search.samples=6000"), tmp_path)
    check_whole(run_dir)
    again = [
        (event["taken_up"], before[key])
        for event in events(run_dir, "trial_report")[reported[-1] :]
        if (key := (event["cell"], event["trial"])) in before
    ]
    assert again
    assert [pair for pair in again if pair[0] < min(pair[1], RUNG)] == []


def each(processes: list[psutil.Process], act: Callable[[psutil.Process], None]) -> None:
    """Act on processes, of which some may have ended."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)


def settle(run_dir: Path) -> None:
    """Until two seconds have brought no further report."""
    seen = -1
    while seen != (seen := count(run_dir, "trial_report")):
        time.sleep(2)


def halfway(run_dir: Path) -> dict[tuple[str, int], int]:
    """The last milestone of every trial that trains the encoder and is on its way to the next."""
    last: dict[tuple[str, int], int] = {}
    for event in events(run_dir, "trial_report", "trial_paused", "trial_ended"):
        key = (event["cell"], event["trial"])
        if event["event"] == "trial_report" and "frozen" not in event["cell"]:
            last[key] = event["milestone"]
        else:
            last.pop(key, None)
    return last


@pytest.mark.parametrize("killing", range(times(1, 3)))
def test_a_search_that_loses_a_machine_ends_on_the_other(tmp_path: Path, killing: int) -> None:
    finished = lose_nodes(tmp_path, "one", str(2 + killing))
    assert finished.returncode == 0, finished.stderr
    check_went_on(tmp_path / "small")


@pytest.mark.skipif(not LONG, reason="make chaos; test_actor_pool.py has it without nodes")
def test_a_search_that_loses_all_machines_ends_in_one_line(tmp_path: Path) -> None:
    finished = lose_nodes(tmp_path, "all", "2")
    assert finished.returncode == 2, finished.stderr
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("error: --address: no machine has had room for a trial for ")
    assert "--resume" in line
    assert 'run_search.py", line' not in finished.stderr  # the cluster's own processes may cry


def lose_nodes(out: Path, which: str, reports: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-m", "tests.chaos.lost_nodes", str(out), which, reports]
    return subprocess.run(script, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
