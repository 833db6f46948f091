"""Workers get the code that they import, and nothing else that lies in a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from errors import InputError
from search_spaces import ResourcesConfig
from tests.tune.workers.test_cluster import failing
from tune.workers.cluster import connected
from tune.workers.shipped import PACKAGES, shipped_code

USERS = (
    *("photos/cat/a.jpg", "data/photos/cat/a.jpg", "data/own.csv", "runs/small/events.jsonl"),
    *("photos/labels.py", "data/photos/labels.py", ".env", "models/glyph_clip/clip.safetensors"),
)


def test_only_code_is_sent(tmp_path: Path) -> None:
    code = ("run.py", "tune/__init__.py", "tune/__init__.pyi", "data/sources/own.py")
    inits = (*(f"{name}/__init__.py" for name in PACKAGES), "data/sources/__init__.py")
    for name in (*code, *inits, *USERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with shipped_code(tmp_path) as folder:
        sent = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert sent == {*code, *inits}
    assert not folder.exists()


def test_what_is_sent_is_enough_to_work_with() -> None:
    """All that a run imports, but for the command line, is found without the checkout."""
    check = "import pathlib, report, tune.run, tune.evaluate; print(pathlib.Path(tune.__file__))"
    with shipped_code() as folder:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        found = subprocess.run(
            [sys.executable, "-c", check],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
        )
        assert found.returncode == 0, found.stderr
        assert Path(found.stdout.strip()).is_relative_to(folder)


def test_code_that_a_cluster_does_not_take_is_not_told_as_no_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, ray.exceptions.RuntimeEnvSetupError("Package size exceeds the maximum"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError) as told, connected(ResourcesConfig(), "auto", 0):
        pass
    line = str(told.value)
    assert line.startswith("--address auto: the cluster does not take this project's code (")
    assert "Package size exceeds" in line
    assert "\n" not in line
