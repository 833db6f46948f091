"""The batch systems' job scripts, run for real but for the batch system.

Stand-ins of `srun`, `scontrol` and `qrsh` start what they are asked to on this machine, each host
with a loopback address of its own.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.chaos import LONG
from tests.runs.helpers import ROOT, arguments_of, events, listening

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ON_HOST = """
echo "$host $*" >> "$STAND_IN/started"
[[ $host == alpha ]] && exec "$@"
exec "$@" --node-ip-address=127.0.0.3
"""
STAND_INS = {
    "srun": """
for option; do
    [[ $option == --* ]] || break
    [[ $option != --nodelist=* ]] || host=${option#*=}
    shift
done
"""
    + ON_HOST,
    "qrsh": """
[[ $1 == -inherit && $2 == -nostdin ]] || exit 64
host=$3
shift 3
"""
    + ON_HOST,
    "scontrol": """
case $1 in
    show) tr , "\\n" <<< "$3" ;;
    requeue) echo "$2" >> "$STAND_IN/requeued" ;;
esac
""",
}


@dataclass
class BatchSystem:
    """Starts job scripts as a batch system would, and sees what they did."""

    folder: Path
    jobs: list[subprocess.Popen[str]] = field(default_factory=list)

    def submit(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a job script, in a process group of its own; it sees two hosts on loopback."""
        settings = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "STAND_IN": str(self.folder),
            "CLIP_SEARCH_BIN": str(Path(sys.executable).parent),
            "CLIP_SEARCH_HEAD_IP": "127.0.0.2",
            "CLIP_SEARCH_TOKENS": str(self.folder / "tokens"),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        job = subprocess.Popen(
            ["bash", f"cluster/{script}", *arguments],
            cwd=ROOT,
            env={**inherited, **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.jobs.append(job)
        return job

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def tokens(self) -> list[Path]:
        return list((self.folder / "tokens").glob("*"))


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[BatchSystem]:
    folder = tmp_path / "stand-ins"
    folder.mkdir()
    for name, script in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash{script}")
        (folder / name).chmod(0o755)
    system = BatchSystem(folder)
    yield system
    for job in system.jobs:
        if job.poll() is None:
            family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
            for process in family:
                process.kill()


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


def secrets_shown(token: str, job: subprocess.Popen[str]) -> list[str]:
    """The command lines of the job's processes that hold its token."""
    family = psutil.Process(job.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in family]
    return [line for line in lines if token in line]


def table(run_dir: Path) -> list[bool]:
    found: list[bool] = pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist()
    return found


SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "alpha,beta", "SLURM_CPUS_PER_TASK": "1"}


def test_a_slurm_job_ends_in_time_and_its_next_turn_finishes(
    batch: BatchSystem, tmp_path: Path
) -> None:
    run_dir = tmp_path / "out" / "small"
    first = batch.submit("slurm.sh", *tiny(tmp_path / "out", "frozen,llrd"), **SLURM)
    wait_for_a_trial(run_dir, first)
    (file,) = batch.tokens
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

    second = batch.submit("slurm.sh", *tiny(tmp_path / "out", "frozen,llrd"), **SLURM)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    assert "accuracy" in said
    assert table(run_dir) == [True] * 2
    assert batch.lines("requeued") == ["7"]
    hosts = [line.split()[0] for line in batch.lines("started")]
    assert hosts == ["alpha", "beta"] * 2
    assert len(events(run_dir, "trial_report")) > reported
    assert [len(view["nodes"]) for view in events(run_dir, "nodes")] == [2, 2]


@pytest.mark.skipif(not LONG, reason="make chaos; Slurm's test has two hosts too")
def test_a_grid_engine_job_over_two_hosts_finishes(batch: BatchSystem, tmp_path: Path) -> None:
    hosts = tmp_path / "pe_hostfile"
    hosts.write_text("alpha 1 all.q@alpha UNDEFINED\nbeta 1 gpu.q@beta UNDEFINED\n")
    job = batch.submit(
        "sge.sh", *tiny(tmp_path / "out", "frozen"), JOB_ID="8", NSLOTS="2", PE_HOSTFILE=str(hosts)
    )
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert table(tmp_path / "out" / "small") == [True]
    (started,) = batch.lines("started")
    assert started.startswith("beta env RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=")
    (view,) = events(tmp_path / "out" / "small", "nodes")
    assert len(view["nodes"]) == 2
    assert batch.tokens == []


def test_a_grid_engine_job_at_its_soft_limit_asks_for_another_turn(
    batch: BatchSystem, tmp_path: Path
) -> None:
    job = batch.submit("sge.sh", *tiny(tmp_path / "out", "frozen,llrd"), JOB_ID="9", NSLOTS="1")
    wait_for_a_trial(tmp_path / "out" / "small", job)
    assert listening(job.pid) == {"127.0.0.1"}  # one machine: nobody else can reach it
    os.killpg(job.pid, signal.SIGUSR1)  # Grid Engine signals the whole group
    said = job.communicate(timeout=120)[0]
    assert job.returncode == 99, said
    assert "interrupted; nothing is lost" in said
    assert batch.tokens == []
