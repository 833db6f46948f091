"""A command line that runs nothing, and a small search space for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tune.run
from search_spaces import Experiment
from tune.run import Options

METHODS = {"frozen": {"space": {"blocks": "none"}}, "llrd": {"space": {"blocks": "11-7"}}}
SPACE = {"data": {"source": "digits"}, "methods": METHODS}


class Calls:
    """What the command line asked for, in place of a run."""

    def __init__(self) -> None:
        self.experiment: Experiment | None = None
        self.options: Options | None = None
        self.dry = False
        self.error: BaseException | None = None
        self.lines: list[str] = []  # of cells without a result

    def run(self, experiment: Experiment, options: Options, console: Any) -> Calls:
        self.experiment, self.options = experiment, options
        if self.error:
            raise self.error
        return self

    def dry_run(self, experiment: Experiment, options: Options, console: Any) -> None:
        self.run(experiment, options, console)
        self.dry = True

    def render(self, console: Any) -> None:
        console.print("the table")

    @property
    def missing(self) -> list[str]:
        return self.lines


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(tune.run, "run", calls.run)
    monkeypatch.setattr(tune.run, "dry_run", calls.dry_run)
    return calls


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return str(path)
