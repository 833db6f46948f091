"""Disks and stores without room: slower or refused in one line, and never wrong."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import LONG
from tests.chaos.processes import LIMIT, count, running, wait_for
from tests.runs.helpers import METHODS, ROOT, events, without_cost, without_seconds

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def searched_in(megabytes: int, out: Path) -> str:
    """What Ray says of its memory after a search in an object store of that size."""
    script = [sys.executable, "-m", "tests.chaos.crowded_store", str(out), str(megabytes)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_an_object_store_too_small_changes_no_number(tmp_path: Path) -> None:
    small, large = tmp_path / "small store", tmp_path / "large store"
    assert "Spilled" in searched_in(80, small)
    assert "Spilled" not in searched_in(600, large)
    assert without_cost(small / "small") == without_cost(large / "small")
    assert without_seconds(small / "small") == without_seconds(large / "small")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 200 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(place)]
    with contextlib.suppress(OSError):
        subprocess.run(mount, capture_output=True, check=False)
    if not os.path.ismount(place):
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; returns the file that takes it all."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    return ballast


@pytest.mark.skipif(not LONG, reason="make chaos; tests/test_disk.py has it without a disk")
def test_a_disk_that_fills_up_under_the_results_loses_nothing(disk: Path) -> None:
    run_dir = disk / "small"
    arguments = ("--partitions", "100", "--set", "search.samples=3000", "--set", "final.seeds=1")
    with running(disk, *arguments) as process:
        assert wait_for(lambda: count(run_dir, "trial_report") >= 4, process)
        ballast = fill(disk)
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith(f"error: {run_dir}: cannot be written to (No space left on device)")
    done = {(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")}
    ballast.unlink()
    with running(disk, *arguments, "--resume") as process:
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    ends = events(run_dir, "trial_ended")
    assert done <= {(e["cell"], e["trial"]) for e in ends}
    assert len(ends) == 1 + 5 + 1
    assert {e["status"] for e in ends} <= {"completed", "stopped"}
    assert len(list((run_dir / "final_fits").iterdir())) == len(METHODS)


def test_a_disk_that_fills_up_under_the_cache_is_one_line(disk: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "CLIP_SEARCH_CACHE": str(disk)}
    with running(tmp_path, "--partitions", "10", env=environment) as process:
        assert wait_for(lambda: any(disk.rglob("*.safetensors")), process)
        ballast = fill(disk)
        _, said = process.communicate(timeout=LIMIT)
    assert not count(tmp_path / "small", "stage"), "features were done"
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: ")
    assert str(disk) in said.splitlines()[-1]
    assert [path for path in disk.rglob("*") if path.name.startswith(".")] == []  # half written
    if LONG:
        ballast.unlink()
        with running(tmp_path, "--partitions", "10", "--resume", env=environment) as process:
            _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said


def test_a_read_only_cache_is_one_line(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    environment = {**os.environ, "CLIP_SEARCH_CACHE": str(disk)}
    with running(tmp_path, "--partitions", "10", env=environment) as process:
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 2, said
    assert said.splitlines()[-1] == f"error: features.cache: cannot write to {disk}"
