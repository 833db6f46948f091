"""Trials in other programs' logs: each point once, and no search ends for a logger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ray.tune.logger import LoggerCallback

from errors import InputError
from records import Cell, Event, TrialEnded, TrialReported, TrialStarted
from search_spaces import Experiment
from tests.report.test_tensorboard import scalars
from tests.runs.helpers import small
from tests.tune.search.simulated import a_report
from tune.monitor.loggers import TrialLog
from tune.places import check_loggers

CELL = Cell(10, "llrd")
CONFIG = {"blocks": "11-7", "lr": 1e-4, "head_lr": (0.1, 0.2)}


class Fake(LoggerCallback):
    """Writes down what it is told; fails at the call of this number."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.calls: list[Any] = []
        self.fails_at = fails_at

    def _told(self, *call: Any) -> None:
        if len(self.calls) == self.fails_at:
            raise OSError("the server has gone")
        self.calls.append(call)

    def log_trial_start(self, trial: Any) -> None:
        self._told("start", str(trial), trial.config["method"], trial.experiment_dir_name)

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._told("result", str(trial), iteration, result["val_accuracy"])

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._told("end", str(trial), failed)


def started(number: int) -> Event:
    return TrialStarted(CELL, number, "sampler", CONFIG, None)


def reported(number: int, samples: int) -> Event:
    return TrialReported(CELL, number, a_report(samples, 0.5))


def log(tmp_path: Path, logger: LoggerCallback, said: list[str] | None = None) -> TrialLog:
    lines: list[str] = [] if said is None else said
    experiment = small("loggers=[mlflow]")
    return TrialLog("mlflow", experiment, tmp_path, "1a2b", lines.append, lambda *_: logger)


def test_a_trial_is_one_run_of_a_logger_whatever_pauses_it(tmp_path: Path) -> None:
    fake = Fake()
    to = log(tmp_path, fake)
    events = [started(3), reported(3, 100), started(4), started(3), reported(3, 300)]
    for event in [*events, TrialEnded(CELL, 3, "failed", "why")]:
        to.take(event)
    to.close()
    assert fake.calls == [
        ("start", "10/llrd/3", "llrd", "10/llrd"),
        ("result", "10/llrd/3", 100, 0.5),
        ("start", "10/llrd/4", "llrd", "10/llrd"),
        ("result", "10/llrd/3", 300, 0.5),
        ("end", "10/llrd/3", True),
        ("end", "10/llrd/4", False),
    ]


@pytest.mark.parametrize("fails_at", range(3))
def test_a_logger_that_fails_is_told_of_once(tmp_path: Path, fails_at: int) -> None:
    fake, said = Fake(fails_at), list[str]()
    to = log(tmp_path, fake, said)
    for event in (started(3), reported(3, 100), TrialEnded(CELL, 3, "completed", ""), started(4)):
        to.take(event)
    to.close()
    assert said == ["loggers: mlflow fails (the server has gone); it gets nothing more"]
    assert len(fake.calls) == fails_at


def test_a_logger_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    def broken(*_: Any) -> LoggerCallback:
        raise ValueError("no key")

    said: list[str] = []
    to = TrialLog("wandb", small(), tmp_path, "1a2b", said.append, broken)
    to.take(started(3))
    to.close()
    assert said == ["loggers: wandb fails (no key); it gets nothing more"]


def test_tensorboard_gets_the_points_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    to = TrialLog("tensorboard", small(), tmp_path, "1a2b", pytest.fail)
    for event in (started(3), reported(3, 100), reported(3, 300)):
        to.take(event)
    to.close()
    found = scalars(tmp_path / "tensorboard" / "10" / "llrd" / "3")
    points = [point for point in found if point[0] == "ray/tune/val_accuracy"]
    assert points == [("ray/tune/val_accuracy", step, 0.5) for step in (100, 300)]
    tags = {tag for tag, _, _ in found}
    assert "_hparams_/experiment" in tags


def take_two_trials(name: str, folder: Path) -> None:
    to = TrialLog(name, small(), folder, "1a2b", pytest.fail)
    for event in (started(3), started(4), reported(3, 100), reported(4, 100), reported(3, 300)):
        to.take(event)
    to.take(TrialEnded(CELL, 3, "completed", ""))
    to.close()


def test_wandb_gets_a_run_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    take_two_trials("wandb", tmp_path)
    runs = sorted((tmp_path / "wandb").rglob("*.wandb"))
    assert [run.stem for run in runs] == ["run-1a2b-10-llrd-3", "run-1a2b-10-llrd-4"]
    until = time.monotonic() + 60  # a process of W&B's own writes the files
    while not all(b"val_accuracy" in run.read_bytes() for run in runs):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_mlflow_gets_a_run_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    take_two_trials("mlflow", tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name(small().name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["10/llrd/3", "10/llrd/4"]
    points = client.get_metric_history(runs["10/llrd/3"].info.run_id, "val_accuracy")
    assert [point.step for point in points] == [100, 300]
    assert runs["10/llrd/3"].data.params["method"] == "llrd"


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune.places.find_spec", lambda name: name != "mlflow" or None)
    check_loggers(["tensorboard", "wandb"])
    with pytest.raises(InputError, match=r"^loggers: mlflow is not installed: pip install mlflow$"):
        check_loggers(["tensorboard", "mlflow"])


def test_loggers_are_named_in_a_search_space() -> None:
    experiment: Experiment = small("loggers=[tensorboard, wandb]")
    assert experiment.loggers == ("tensorboard", "wandb")
    with pytest.raises(InputError, match="tensorboard"):
        small("loggers=[tensorbord]")
