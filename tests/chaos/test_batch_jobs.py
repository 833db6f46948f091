"""The batch systems' job scripts, run for real but for the batch system."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.chaos import LONG
from tests.runs.batch_system import SLURM, BatchSystem, batch_system, hostfile, secrets_shown
from tests.runs.helpers import arguments_of, events, listening

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not LONG, reason="make chaos; tests/runs/test_batch_jobs.py has stand-ins"),
]


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchSystem]:
    with batch_system(tmp_path / "batch") as system:
        yield system


def tiny(out: Path, methods: str) -> list[str]:
    small = [*arguments_of(out), "--partitions", "10", "--set", "search.samples=3000"]
    return [*small, "--methods", methods, "--trials", "4"]


def wait_for_a_trial(run_dir: Path, job: subprocess.Popen[str]) -> None:
    journal = run_dir / "events.jsonl"
    for _ in range(1200):
        if journal.exists() and events(run_dir, "trial_report"):
            return
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    pytest.fail("no trial reported")


def table(run_dir: Path) -> list[bool]:
    found: list[bool] = pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist()
    return found


def test_a_slurm_job_with_a_real_cluster(batch: BatchSystem, tmp_path: Path) -> None:
    run_dir = tmp_path / "out" / "small"
    slurm = {**SLURM, "SLURM_CPUS_PER_TASK": "1"}
    first = batch.submit("slurm.sh", *tiny(tmp_path / "out", "frozen,llrd"), **slurm)
    wait_for_a_trial(run_dir, first)
    _, file = batch.tokens
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert len(token) == 64
    assert secrets_shown(token, first) == []
    os.kill(first.pid, signal.SIGUSR1)  # --signal=B:USR1 reaches the script alone
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 130, said
    assert token not in said
    assert batch.lines("requeued") == ["7"]
    assert batch.tokens == []
    assert not (run_dir / "accuracy_table.csv").exists()
    reported = len(events(run_dir, "trial_report"))

    second = batch.submit("slurm.sh", *tiny(tmp_path / "out", "frozen,llrd"), **slurm)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    assert "accuracy" in said
    assert table(run_dir) == [True] * 2
    assert batch.lines("requeued") == ["7"]
    hosts = [line.split()[0] for line in batch.lines("started")]
    assert hosts == ["alpha", "beta"] * 2
    assert len(events(run_dir, "trial_report")) > reported
    assert [len(view["nodes"]) for view in events(run_dir, "nodes")] == [2, 2]


def test_a_grid_engine_job_with_a_real_cluster(batch: BatchSystem, tmp_path: Path) -> None:
    job = batch.submit(
        "sge.sh", *tiny(tmp_path / "out", "frozen"), JOB_ID="8", PE_HOSTFILE=hostfile(tmp_path)
    )
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert table(tmp_path / "out" / "small") == [True]
    (started,) = batch.lines("started")
    assert started.startswith("beta env RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=")
    (view,) = events(tmp_path / "out" / "small", "nodes")
    assert len(view["nodes"]) == 2
    assert batch.tokens == []


def test_a_real_grid_engine_job_at_its_soft_limit(batch: BatchSystem, tmp_path: Path) -> None:
    job = batch.submit("sge.sh", *tiny(tmp_path / "out", "frozen,llrd"), JOB_ID="9", NSLOTS="1")
    wait_for_a_trial(tmp_path / "out" / "small", job)
    assert listening(job.pid) == {"127.0.0.1"}  # one machine: nobody else can reach it
    os.killpg(job.pid, signal.SIGUSR1)  # Grid Engine signals the whole group
    said = job.communicate(timeout=120)[0]
    assert job.returncode == 99, said
    assert "interrupted; nothing is lost" in said
    assert batch.tokens == []
