"""Who can reach a cluster: who has its token. (A run on one machine: test_live_run.py.)"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.runs.helpers import ROOT, command, reached_by_others

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TOKEN = "0123456789abcdef" * 4
RAYLET = "private/ray/session_2*/sockets/raylet"


def environment(**settings: str) -> dict[str, str]:
    """This process's, without what it knows of Ray."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | settings


@dataclass(frozen=True)
class Head:
    """A running `ray start --head` that asks for a token."""

    address: str
    dashboard: str
    files: Path

    def ask(self, path: str, token: str | None = None, body: dict[str, str] | None = None) -> Any:
        """The dashboard's answer; raises HTTPError where it refuses."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.dashboard}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    port, dashboard, client = (s.getsockname()[1] for s in sockets)
    for each in sockets:
        each.close()
    # In a folder of its own, a short one: its address is left behind there, for others to try.
    temporary = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    temporary.chmod(0o1777)  # as /tmp is
    process = subprocess.Popen(
        [
            *("bash", str(ROOT / "cluster/private.sh"), str(temporary / "private")),
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *(f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=1"),
            *(f"--ray-client-server-port={client}", "--dashboard-agent-listen-port=0"),
        ],
        env=environment(
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=TOKEN,
            RAY_USAGE_STATS_ENABLED="0",
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", temporary)
    try:
        wait_until_up(running)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(temporary, ignore_errors=True)


def wait_until_up(head: Head) -> None:
    """Wait for the dashboard and the raylet: either may be the first."""
    for _ in range(120):
        try:
            head.ask("/api/jobs/", TOKEN)
            if list(head.files.glob(RAYLET)):
                return
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail("the dashboard or the raylet did not start")


def test_another_user_reaches_none_of_its_files(head: Head) -> None:
    assert list(head.files.glob(RAYLET))
    assert reached_by_others(head.files) == []


@pytest.mark.parametrize(("token", "code"), [(None, 401), ("f" * 64, 403)])
def test_a_cluster_takes_no_job_without_its_token(
    head: Head, token: str | None, code: int, tmp_path: Path
) -> None:
    job = {"entrypoint": f"touch {tmp_path / 'intruder'}"}
    for path, body in (("/api/jobs/", job), ("/api/jobs/", None), ("/api/version", None)):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            head.ask(path, token, body)
        assert refusal.value.code == code
    assert not any("intruder" in job["entrypoint"] for job in head.ask("/api/jobs/", TOKEN))
    assert not (tmp_path / "intruder").exists()


def test_a_cluster_takes_a_job_with_its_token(head: Head, tmp_path: Path) -> None:
    job = {"entrypoint": f"touch {tmp_path / 'guest'}"}
    name = head.ask("/api/jobs/", TOKEN, job)["submission_id"]
    for _ in range(120):
        status = head.ask(f"/api/jobs/{name}", TOKEN)["status"]
        if status in ("SUCCEEDED", "FAILED"):
            break
        time.sleep(0.5)
    assert status == "SUCCEEDED"
    assert (tmp_path / "guest").exists()


def test_a_driver_joins_with_the_token_alone(head: Head, tmp_path: Path) -> None:
    settings = {
        "with the token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        "with another": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64},
        "without": {"RAY_AUTH_MODE": "disabled"},
    }
    drivers = {
        name: subprocess.Popen(
            command(tmp_path, "--address", head.address, "--dry-run"),
            env=environment(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", **each),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, each in settings.items()
    }  # at once: each waits long for an answer
    said = {name: driver.communicate(timeout=180)[1] for name, driver in drivers.items()}
    codes = {name: driver.returncode for name, driver in drivers.items()}
    assert codes == {"with the token": 0, "with another": 2, "without": 2}, said
    for name in ("with another", "without"):
        line = said[name].splitlines()[-1]
        assert line.startswith(f"error: --address {head.address}: no Ray cluster answers")
        assert "RAY_AUTH_MODE=token" in line
        assert "Traceback" not in said[name]
