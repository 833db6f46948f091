"""One of Ray's servers is killed, as by a machine short of memory: the run says how to go on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from tests.chaos import LONG
from tests.chaos.processes import count, running, wait_for
from tests.runs.helpers import events

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SERVERS = ["raylet", *(["gcs_server"] if LONG else [])]  # Ray waits a minute for the second


def server(driver: int, name: str) -> psutil.Process:
    """One of the Ray servers that a process has started."""
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if process.name() == name:
                return process
    raise AssertionError(f"no {name}")


@pytest.mark.parametrize("name", SERVERS)
def test_a_run_whose_ray_is_killed_says_how_to_continue(tmp_path: Path, name: str) -> None:
    run_dir = tmp_path / "small"
    with running(tmp_path, "--partitions", "10", "--trials", "400") as process:
        assert wait_for(lambda: count(run_dir, "trial_report") >= 2, process)
        server(process.pid, name).kill()
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said == ""
    line = errors.splitlines()[-1]
    assert line.startswith("error: this process or Ray was killed")
    assert line.endswith("--trials 400 --resume")
    assert (run_dir / "events.jsonl").read_bytes().endswith(b"\n")
    assert len(events(run_dir, "trial_report")) >= 2
