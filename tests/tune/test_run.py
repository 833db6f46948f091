"""What a run and a dry run say before they need Ray."""

from __future__ import annotations

import io
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from errors import InputError
from search_spaces import load_experiment
from tests.runs.helpers import DIGITS
from tune.run import Options, dry_run, run
from tune.run_dir import RunDirectory


class BegunError(Exception):
    """Everything before the run's directory is done."""


def test_a_run_begins_with_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: Any) -> None:
        raise BegunError

    monkeypatch.setattr(RunDirectory, "locked", begin)
    said = io.StringIO()
    with pytest.raises(BegunError):
        run(load_experiment(DIGITS), Options(), Console(file=said, width=60))
    first, second = said.getvalue().splitlines()[:2]
    assert first.startswith("digits_all: digits, images: ")
    assert second.startswith("10 classes: zero (178), one (182), two (177), ")


def test_a_dry_run_refuses_images_that_nobody_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos.csv").write_text(
        "path,label\n" + "".join(f"{n}.jpg,{'ab'[n % 2]}\n" for n in range(200))
    )

    @contextmanager
    def connected(*_: Any) -> Any:
        about = {"grows": False, "nodes": 1, "slots_at": {}, "describe": lambda self: "a cluster"}
        yield type("Cluster", (), about)()

    monkeypatch.setattr("tune.machines.connected", connected)
    monkeypatch.setattr(
        "tune.workers.survey.alive", lambda: {"n": {"NodeManagerAddress": "10.0.0.1"}}
    )
    experiment = load_experiment(
        DIGITS, [f"data.source=csv:{tmp_path / 'photos.csv'}", "data.partitions=[100]"]
    )
    said = io.StringIO()
    with pytest.raises(InputError, match=r"can read no image, such as \d+.jpg: No such file"):
        dry_run(experiment, Options(out=tmp_path), Console(file=said, width=200))
    assert "2 classes: a (100), b (100)" in said.getvalue()
    assert "10.0.0.1 does NOT see the images" in said.getvalue()
