"""What is set before Ray is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tune.workers.ray_environment import LOOPBACK, SETTINGS, set_ray_environment


@pytest.fixture(autouse=True)
def ray_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is put back, with what the tests set."""
    for name in ("HOME", "RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH", "TMPDIR", *SETTINGS, *LOOPBACK):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_paths_do_not_depend_on_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("RAY_TMPDIR", "here")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "~/token")
    set_ray_environment(loopback=False)
    assert os.environ["RAY_TMPDIR"] == str(Path("here").absolute())
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/home/me/token"
    assert os.environ["HOME"] == "/home/me"


@pytest.mark.parametrize(("folder", "kept"), [("/var/tmp", True), ("/scratch/" + "x" * 90, False)])
def test_a_long_temporary_folder_is_passed_over(
    folder: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray hangs in its start, as its dashboard has sockets there, too."""
    monkeypatch.setenv("TMPDIR", folder)
    set_ray_environment(loopback=True)
    assert ("TMPDIR" in os.environ) == kept


def test_a_user_without_a_home_gets_none_that_others_could_fill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    set_ray_environment(loopback=True)
    assert not Path(os.environ["HOME"]).exists()
