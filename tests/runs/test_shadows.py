"""A run in a folder whose files are named as modules: none of them is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.runs.helpers import command, shadows, table_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_run_imports_nothing_from_the_current_folder(tmp_path: Path) -> None:
    told = shadows(tmp_path / "here")
    copy = ("--storage", "copy", "--partitions", "10", "--methods", "frozen")
    finished = subprocess.run(
        command(Path("out"), *copy), cwd=tmp_path / "here", capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert not told.exists(), told.read_text()
    assert table_of(tmp_path / "here/out/small").test_accuracy.notna().all()
    assert (tmp_path / "here/copy/small/accuracy_table.md").exists()
