"""Which code is the user's."""

from __future__ import annotations

from pathlib import Path

from tune.workers.own_parts import PROJECT

ROOT = Path(__file__).resolve().parents[3]


def test_the_projects_own_modules_are_known() -> None:
    modules = {file.stem for file in ROOT.glob("*.py")}
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
    assert modules | packages == PROJECT
