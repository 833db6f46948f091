"""A run records what it was made with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tune.versions
from tune.versions import ROOT, versions


def test_the_projects_own_version_follows_from_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = versions()
    assert {"clip-adaptation-search", "python", "torch", "ray", "numpy"} <= here.keys()
    for room in ("models", "tune"):
        shutil.copytree(ROOT / room, tmp_path / room)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(tune.versions, "ROOT", tmp_path)
    before = versions()
    assert versions() == before
    (tmp_path / "notes.md").touch()
    assert versions() == before
    with (tmp_path / "models" / "fit.py").open("a") as file:
        file.write("\n")
    assert [name for name, version in versions().items() if version != before[name]] == [
        "clip-adaptation-search"
    ]
    assert before["clip-adaptation-search"].startswith("0.1.0+")
