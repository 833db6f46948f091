"""Disks and stores without room: slower or refused in one line, and never wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from disk import full_disk_reported
from errors import InputError
from records import TEST
from search_spaces import Experiment
from tests.chaos import LONG, crowded_store
from tests.chaos.processes import LIMIT, count, running, wait_for
from tests.runs.helpers import METHODS, ROOT, events, run_quietly, small, without_seconds

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_an_object_store_too_small_changes_no_number(results: Path, tmp_path: Path) -> None:
    """The session's own run, on a store with room for all of it, has the same cells."""
    script = [sys.executable, "-m", "tests.chaos.crowded_store", str(tmp_path)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    assert "Spilled" in finished.stdout
    crowded, roomy = without_seconds(tmp_path / "small"), without_seconds(results)
    assert len(crowded) == 2 * len(crowded_store.METHODS)  # seeds
    for name, fit in crowded.items():
        # It has no further test set, which its key says.
        tests = {TEST: roomy[name].tests[TEST]}
        assert fit == dataclasses.replace(roomy[name], tests=tests, fit_key=fit.fit_key)
    tables = [
        pd.read_csv(run_dir / "accuracy_table.csv").set_index(["partition", "method"])
        for run_dir in (tmp_path / "small", results)
    ]
    shared = [name for name in tables[0] if "seconds" not in name]
    pd.testing.assert_frame_equal(
        tables[0][shared],
        tables[1].loc[tables[0].index, shared],
        check_exact=True,
        check_dtype=False,
    )
    for path in (tmp_path / "small").glob("winners/*"):
        assert path.read_bytes() == (results / "winners" / path.name).read_bytes()


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


def experiment_on(cache: Path) -> Experiment:
    return small("data.partitions=[10]", f"features.cache={cache}", "features.batch_size=16")


@pytest.mark.usefixtures("ray_session")
def test_a_disk_that_fills_up_under_the_cache_is_one_line(disk: Path, tmp_path: Path) -> None:
    filled: list[Path] = []

    def fill_in_the_midst() -> None:
        while not any(disk.rglob("*.safetensors")):
            time.sleep(0.02)
        filled.append(fill(disk))

    threading.Thread(target=fill_in_the_midst, daemon=True).start()
    with pytest.raises(InputError) as error, full_disk_reported(tmp_path / "small"):
        run_quietly(experiment_on(disk), tmp_path)
    assert not count(tmp_path / "small", "stage"), "features were done"
    assert str(disk) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert [path for path in disk.rglob("*") if path.name.startswith(".")] == []  # half written
    if LONG:
        filled[0].unlink()
        run_quietly(experiment_on(disk), tmp_path, resume=True)


@pytest.mark.usefixtures("ray_session")
def test_a_read_only_cache_is_one_line(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(InputError) as error, full_disk_reported(tmp_path / "small"):
        run_quietly(experiment_on(disk), tmp_path)
    assert str(error.value) == f"features.cache: cannot write to {disk}: Read-only file system"
