"""The batch systems' job scripts, with stand-ins of the batch system, of Ray and of the search.

tests/chaos/test_batch_jobs.py runs them with a real Ray and a real search.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.batch_system import (
    PROGRAMS,
    SLURM,
    BatchSystem,
    batch_system,
    hostfile,
    secrets_shown,
    write_scripts,
)
from tests.runs.helpers import ROOT

ARGUMENTS = ("a space.yaml", "--out", "results")


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[BatchSystem]:
    programs = write_scripts(tmp_path / "programs", PROGRAMS)
    with batch_system(tmp_path / "batch", programs) as system:
        yield system


def wait_for_the_search(system: BatchSystem, job: subprocess.Popen[str]) -> None:
    """Until the stand-in of the search takes signals."""
    for _ in range(1200):
        if system.lines("searching"):
            return
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    pytest.fail("the search was not started")


def address_of(ray: str) -> str:
    """The head's address, by how it was started."""
    words = dict(word.split("=", 1) for word in ray.split() if "=" in word)
    return f"{words['--node-ip-address']}:{words['--port']}"


def check_cluster(stub: BatchSystem, cpus: tuple[int, int]) -> None:
    """A head that listens on the first host, the second that joins it, and the search on them."""
    head, first, worker, second, search = stub.lines("programs")
    address = address_of(head)
    assert address.startswith("127.0.0.2:")
    assert "--head" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert f"--num-cpus={cpus[0]}" in head
    assert first.split()[:3] == ["cluster/wait_for_nodes.py", address, "1"]
    assert "--head" not in worker
    assert {f"--address={address}", f"--num-cpus={cpus[1]}"} <= set(worker.split())
    assert second.split()[:3] == ["cluster/wait_for_nodes.py", address, "2"]
    assert search.strip() == f"run_search.py {' '.join(ARGUMENTS)} --resume --address {address}"


def test_a_slurm_job_ends_in_time_and_its_next_turn_finishes(stub: BatchSystem) -> None:
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    wait_for_the_search(stub, job)
    folder, file = stub.tokens
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    assert len(token) == 64
    assert stub.lines("token") == [token]  # all know it, by the file
    assert stub.lines("searching") == ["token"]
    assert secrets_shown(token, job) == []
    assert token not in "".join(stub.lines("programs") + stub.lines("started"))
    check_cluster(stub, (3, 3))
    os.kill(job.pid, signal.SIGUSR1)  # --signal=B:USR1 reaches the script alone
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 130, said
    assert token not in said
    assert stub.lines("signals") == ["search TERM", "ray TERM", "ray TERM"]
    assert stub.lines("requeued") == ["7"]
    assert stub.tokens == []

    (stub.folder / "programs").unlink()
    (stub.folder / "outcome").write_text("0")
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 0, said
    assert stub.lines("requeued") == ["7"]
    assert [line.split()[0] for line in stub.lines("started")] == ["alpha", "beta"] * 2
    assert stub.lines("signals")[3:] == ["ray TERM", "ray TERM"]
    assert stub.tokens == []


def test_a_job_refuses_a_token_folder_in_which_anybody_could_replace_it(
    stub: BatchSystem, tmp_path: Path
) -> None:
    (stub.folder / "tokens").mkdir()
    (stub.folder / "tokens").chmod(0o777)
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 1
    assert "set CLIP_SEARCH_TOKENS" in said
    assert stub.tokens == stub.lines("programs") == []


def test_a_token_is_not_written_to_what_another_user_has_made(stub: BatchSystem) -> None:
    """A file of the name that once was known before, and readable to all."""
    (stub.folder / "tokens").mkdir()
    trap = stub.folder / "tokens" / f"clip-search-slurm-{SLURM['SLURM_JOB_ID']}.token"
    trap.touch()
    trap.chmod(0o666)
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    wait_for_the_search(stub, job)
    os.kill(job.pid, signal.SIGTERM)
    job.communicate(timeout=60)
    assert len(stub.lines("token")[0]) == 64
    assert trap.read_text() == ""


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_rays_folder_on_a_host_is_made_for_its_owner_or_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "private"
    script = ["bash", str(ROOT / "cluster/private.sh"), str(folder), "printenv", "RAY_TMPDIR"]
    assert subprocess.check_output(script, text=True) == f"{folder}\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(mode)
    again = subprocess.run(script, capture_output=True, text=True)
    assert again.returncode == (mode != 0o700)
    assert ("is not yours alone" in again.stderr) == (mode != 0o700)
    (tmp_path / "link").symlink_to(folder)
    script[2] = str(tmp_path / "link")
    assert subprocess.run(script, capture_output=True).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_job_that_is_cancelled_asks_for_no_other_turn(
    stub: BatchSystem, number: signal.Signals
) -> None:
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    wait_for_the_search(stub, job)
    os.kill(job.pid, number)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 130, said
    assert stub.lines("signals") == ["search TERM", "ray TERM", "ray TERM"]
    assert stub.lines("requeued") == []
    assert stub.tokens == []


def test_a_job_whose_search_fails_fails(stub: BatchSystem) -> None:
    (stub.folder / "outcome").write_text("2")
    job = stub.submit("slurm.sh", *ARGUMENTS, **SLURM)
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 2, said
    assert stub.lines("requeued") == []
    assert stub.lines("signals") == ["ray TERM", "ray TERM"]
    assert stub.tokens == []


def test_a_grid_engine_job_over_two_hosts_finishes(stub: BatchSystem, tmp_path: Path) -> None:
    (stub.folder / "outcome").write_text("0")
    job = stub.submit("sge.sh", *ARGUMENTS, JOB_ID="8", PE_HOSTFILE=hostfile(tmp_path))
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 0, said
    check_cluster(stub, (1, 3))
    (started,) = stub.lines("started")
    assert started.startswith("beta env RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=")
    assert stub.lines("signals") == ["ray TERM", "ray TERM"]
    assert stub.tokens == []


def test_a_grid_engine_job_at_its_soft_limit_asks_for_another_turn(stub: BatchSystem) -> None:
    job = stub.submit("sge.sh", *ARGUMENTS, JOB_ID="9", NSLOTS="5")
    wait_for_the_search(stub, job)
    os.killpg(job.pid, signal.SIGUSR1)  # Grid Engine signals the whole group
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 99, said
    assert stub.lines("signals") == ["search TERM", "ray TERM"]  # USR1 reached neither
    head, _, _, search = stub.lines("programs")
    assert address_of(head).startswith("127.0.0.1:")  # one machine: nobody else can reach it
    assert "--num-cpus=5" in head
    assert search.endswith(" 0")  # and all that Ray starts there keeps to loopback
    assert stub.tokens == []
