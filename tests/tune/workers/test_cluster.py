"""What is asked of an address before Ray is, and how Ray's failures are told."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from errors import InputError
from search_spaces import ResourcesConfig
from tune.workers import cluster as cluster_module
from tune.workers.cluster import (
    _allow_files,
    _auto_share,
    _check_answers,
    _check_closed,
    _found_here,
    _set_token,
    connected,
)
from tune.workers.gpus import Gpus


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_told_at_once(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _check_answers(f"{scheme}127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"^--address {scheme}127.0.0.1:{port}: nothing answers"):
        _check_answers(f"{scheme}127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no.such.host.invalid:6379"])
def test_an_address_of_nowhere_is_told(address: str) -> None:
    with pytest.raises(InputError, match="nothing answers there"):
        _check_answers(address)


def test_a_port_is_not_taken_by_what_16_bits_leave_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] + 65536
        with pytest.raises(InputError, match=f"nothing answers there .no port {port}"):
            _check_answers(f"127.0.0.1:{port}")


def test_ray_finds_a_cluster_of_this_machine_itself() -> None:
    _check_answers("auto")


@pytest.mark.parametrize(
    ("cpus", "gpus", "share"),
    [(16, 1, 1 / 8), (16, 4, 1 / 4), (2, 1, 1 / 2), (1, 1, 1.0), (0, 8, 1 / 8)],
)
def test_auto_is_the_same_share_on_all_machines(
    cpus: float, gpus: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest that any of them needs; a machine without cores runs no trial."""
    machines = {
        "head": {"Resources": {"CPU": 64.0}},
        "large": {"Resources": {"CPU": 64.0, "GPU": 8.0}},
        "own": {"Resources": {"CPU": float(cpus), "GPU": float(gpus)}},
    }
    monkeypatch.setattr(cluster_module, "alive", lambda: machines)
    monkeypatch.setattr(cluster_module, "slices", lambda: None)
    card = Gpus(80 << 30, False)
    monkeypatch.setattr(cluster_module, "ask", lambda nodes, task: dict.fromkeys(nodes, card))
    assert _auto_share(2 << 30, 1.0) == share
    monkeypatch.setattr(cluster_module, "slices", lambda: 7)
    assert _auto_share(2 << 30, 1.0) == 1.0


FAILURES = [
    OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /x"),
    PermissionError(13, "Permission denied", "/tmp/ray/session_1"),
    ValueError("The configured object store size (12.8 GB) exceeds /dev/shm size"),
    RuntimeError("Could not determine home directory."),
    Exception("The current node timed out during startup.\nThis could happen because"),
]


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Path]:
    """Have ray.init fail; returns the folders in which it was called."""
    called = []

    def init(**_: Any) -> None:
        called.append(Path.cwd())
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    return called


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: str(error)[:20])
def test_a_ray_that_does_not_start_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = failing(monkeypatch, error)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as told, connected(ResourcesConfig(), None, 0):
        pass
    line = str(told.value)
    assert line.startswith(f"Ray does not start here ({' '.join(str(error).split())}")
    assert "\n" not in line
    assert "session_latest/logs" in line
    assert Path.cwd() == tmp_path
    assert called != [tmp_path]  # nothing is imported from there


def test_a_cluster_of_another_version_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    mismatch = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.11.9"
    )
    failing(monkeypatch, RuntimeError(mismatch))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError) as told, connected(ResourcesConfig(), "auto", 0):
        pass
    assert str(told.value).startswith("--address auto: cannot join (Version mismatch: ")
    assert "Python: 3.11.9" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_cluster_whose_code_any_user_could_change_is_not_joined() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        session = Path(folder) / "session"
        session.mkdir()
        session.chmod(0o777)
        about = {"session_dir": str(session)}
        _check_closed("auto", about)  # closed by the folder that it lies in
        Path(folder).chmod(0o755)
        with pytest.raises(InputError, match=rf"can change what this cluster runs, in {session}"):
            _check_closed("auto", about)
        _check_closed(None, about)  # made by this run
    _check_closed("ray://host:1", {})  # this machine is none of the cluster's


def test_auto_takes_the_address_that_nobody_else_can_have_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        with pytest.raises(InputError, match=r"--address auto: .* needed is HOST:PORT"):
            _found_here()
        ray_folder = Path(folder) / "ray"
        ray_folder.mkdir()
        (ray_folder / "ray_current_cluster").write_text("127.0.0.1:7\n")
        ray_folder.chmod(0o777)
        assert _found_here() == "127.0.0.1:7"  # closed by the folder that it lies in
        Path(folder).chmod(0o755)
        with pytest.raises(InputError, match="others can change that"):
            _found_here()
        if os.geteuid() == 0:
            ray_folder.chmod(0o755)
            os.chown(ray_folder, 54321, 54321)
            with pytest.raises(InputError, match="others can change that"):
                _found_here()


@pytest.mark.parametrize("mode", ["token", "disabled", None])
def test_a_ray_that_asks_for_no_token_is_told(
    mode: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, RuntimeError())
    context = SimpleNamespace(address_info={"session_dir": "/nonexistent"}, dashboard_url=None)
    monkeypatch.setattr(ray, "init", lambda **_: context)
    monkeypatch.setattr("tune.workers.cluster._describe", lambda *_, **__: None)
    monkeypatch.setenv("RAY_AUTH_MODE", mode or "")
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE")
    with connected(ResourcesConfig(), None, 0):
        print("of Ray's")
    output = capsys.readouterr()
    assert output.out == ""
    assert ("can run code as you" in output.err) == (mode != "token")
    assert len(output.err.splitlines()) == (mode != "token")


@pytest.mark.parametrize(("mode", "taken"), [(0o600, True), (0o644, False), (None, False)])
def test_the_users_token_is_taken_if_nobody_else_knows_it(
    mode: int | None, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    if mode is not None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").touch(mode)
    _set_token()
    token = os.environ.pop("RAY_AUTH_TOKEN", "")
    assert len(token) == (0 if taken else 64)


def test_too_few_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 64))
    with pytest.raises(InputError, match=r"^ulimit -n is 64, and Ray opens more files; allowed: "):
        _allow_files()
