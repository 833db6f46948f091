"""A command line that runs nothing, a small search space for it, and a run to take away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import tune.run
from models.config import ModelConfig
from models.exported import Description, save_exported
from models.loading import load_pretrained
from models.recipe import Recipe
from records import PAGE, Cell, weights_path
from search_spaces import Experiment, load_experiment
from tests.report.run_writer import PROBE, TUNED, RunWriter
from tests.runs.helpers import DIGITS
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
    def page(self) -> Path:
        assert self.options
        assert self.experiment
        return self.options.out / self.experiment.name / PAGE

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


CLASSES = ("=2+2", "[bold]b", "c\x1b[31m")
SURE = {"10/frozen": 0, "100/frozen": 1, "100/llrd": 2, "4shot/frozen": 0}
"""The class that each winner is sure of, whatever the image."""


def experiment() -> Experiment:
    settings = ["data.partitions=[10, 100]", "data.shots=[4]", "final.seeds=2"]
    return load_experiment(DIGITS, settings, {"name": "small"}, methods=["frozen", "llrd"])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which llrd is the best method at 100%."""
    run_dir = tmp_path_factory.mktemp("runs") / "small"
    writer = RunWriter(run_dir)
    tree = experiment().resolved() | {"identity": {"model": "m"}}
    (run_dir / "experiment.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    fingerprint = load_pretrained(ModelConfig()).fingerprint
    (run_dir / "winners").mkdir()
    writer.test_images()
    for cell, sure in SURE.items():
        tuned = "llrd" in cell
        writer.winner(cell, 0.9 if tuned else 0.5, TUNED if tuned else PROBE)
        writer.final_fits(cell, [0.8, 0.7])
        description = Description(
            recipe=Recipe(blocks="none"),
            boundary="head",
            model=ModelConfig(),
            fingerprint=fingerprint,
            precision="float32",
            classes=CLASSES,
        )
        bias = torch.zeros(3)
        bias[sure] = 2.0
        weights = {"head/weight": torch.zeros(3, 64), "head/bias": bias}
        for seed in (0, 1):
            partition, method = cell.split("/")
            about = {"partition": partition, "method": method, "seed": seed}
            described = description.model_copy(update={"about": about})
            save_exported(weights_path(run_dir, Cell.parse(cell), seed), described, weights)
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "small"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, in folders, a broken one, and what is no photo."""
    folder = tmp_path / "photos"
    (folder / "inner" / ".hidden").mkdir(parents=True)
    for name in ("=a.png", "inner/b.jpg", "inner/.hidden/c.png"):
        Image.new("RGB", (30, 20), "red").save(folder / name)
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    return folder
