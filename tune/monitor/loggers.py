"""Trials in the logs of other programs: TensorBoard, MLflow, Weights & Biases.

Ray's own loggers write the first two. They are fed from the journal's events rather than by Tune:
to Tune a trial that pauses ends and comes back as another, and a trial that is resumed repeats its
last report. The journal has every trial once, and each of its reports once.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ray.tune.logger import LoggerCallback

from errors import one_line
from partitions import named
from records import (
    LOST,
    MLRUNS,
    TENSORBOARD,
    WANDB,
    Cell,
    Event,
    TrialEnded,
    TrialEvent,
    TrialReport,
    TrialReported,
    TrialStarted,
)
from report.tensorboard import SCALARS
from search_spaces import Experiment


@dataclass(frozen=True)
class LoggedTrial:
    """What Ray's loggers ask of a trial.

    Attributes:
        trial_id: its name among all runs.
        local_path: folder of its files.
        experiment_dir_name: what groups trials: the cell.
    """

    cell: Cell
    number: int
    trial_id: str
    local_path: str
    config: dict[str, Any] = field(compare=False)

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """What was searched."""
        return self.config

    @property
    def experiment_dir_name(self) -> str:
        """The cell, which groups trials."""
        return str(self.cell)

    def init_local_path(self) -> None:
        """Make the folder of its files."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self.cell}/{self.number}"


def _tensorboard(experiment: Experiment, folder: Path) -> LoggerCallback:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _mlflow(experiment: Experiment, folder: Path) -> LoggerCallback:
    from mlflow import MlflowClient
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        place = folder.absolute() / MLRUNS
        place.mkdir(exist_ok=True)
        uri = f"sqlite:///{place}/mlflow.db"  # it takes plain folders no more
        client = MlflowClient(uri)
        if client.get_experiment_by_name(experiment.name) is None:  # else it points elsewhere
            client.create_experiment(experiment.name, (place / "artifacts").as_uri())
    tags = {"run": experiment.name}
    return MLflowLoggerCallback(uri, experiment_name=experiment.name, tags=tags)


class _WandbRuns(LoggerCallback):
    """Makes each trial a run of Weights & Biases, in this process.

    Ray's own logger starts two processes a trial, and nobody learns of what fails in them.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        import wandb

        self._wandb, self._runs = wandb, dict[Any, Any]()
        self._project, self._place = experiment.name, folder.absolute() / WANDB
        self._place.mkdir(exist_ok=True)

    def log_trial_start(self, trial: Any) -> None:
        self._runs[trial] = self._wandb.init(
            project=self._project,
            group=trial.experiment_dir_name,
            name=str(trial),
            id=trial.trial_id,
            config=trial.config,
            dir=str(self._place),
            mode=cast(Any, os.environ.get("WANDB_MODE", "offline")),
            resume="allow",  # where a resumed run goes on with a trial
            reinit="create_new",  # several trials run at once
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self._runs[trial].log(result, step=iteration)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._runs.pop(trial).finish(exit_code=int(failed))


Make = Callable[[Experiment, Path], LoggerCallback]
LOGGERS: dict[str, Make] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _WandbRuns}
FOLDERS = {"tensorboard": TENSORBOARD, "mlflow": MLRUNS, "wandb": WANDB}


class TrialLog:
    """Hands the trials of the journal's events to one of the loggers that an experiment names.

    A logger that fails gets nothing more, and a line says so once. The search goes on.

    Args:
        name: of the logger.
        experiment: of the run.
        run_dir: the run's directory, where the log lies.
        run: the run's own name among all runs.
        say: prints a line.
        make: what makes the logger.
    """

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        run_dir: Path,
        run: str,
        say: Callable[[str], None],
        make: Make | None = None,
    ) -> None:
        self._name, self._run, self._say = name, run, say
        self._folder = run_dir.absolute() / FOLDERS[name]
        self._trials: dict[tuple[Cell, int], Any] = {}  # those that are open
        self._failed = False
        with self._told():
            self._logger = (make or LOGGERS[name])(experiment, run_dir)
            self._logger.setup()

    def take(self, event: Event) -> None:
        """Pass an event of a trial on."""
        if self._failed or not isinstance(event, TrialEvent):
            return
        trial = event.cell, event.trial
        with self._told():
            if isinstance(event, TrialStarted) and trial not in self._trials:
                self._trials[trial] = self._logged(event)
                self._logger.log_trial_start(self._trials[trial])
            elif isinstance(event, TrialReported) and trial in self._trials:
                result = _numbers(event.report)
                self._logger.log_trial_result(event.report.samples, self._trials[trial], result)
            elif isinstance(event, TrialEnded) and trial in self._trials:
                self._logger.log_trial_end(self._trials.pop(trial), event.status in LOST)

    def close(self) -> None:
        """End the trials that wait or were interrupted, and the log."""
        if self._failed:
            return
        with self._told():
            for trial in self._trials.values():
                self._logger.log_trial_end(trial, False)
            self._trials.clear()
            self._logger.on_experiment_end([])

    def _logged(self, event: TrialStarted) -> LoggedTrial:
        cell, number = event.cell, event.trial
        plain = {k: str([*v]) if isinstance(v, tuple) else v for k, v in event.config.items()}
        known = {"partition": named(cell.partition), "method": cell.method, "trial": number}
        return LoggedTrial(
            cell,
            number,
            f"{self._run}-{cell.file_stem(number)}",
            str(self._folder / str(cell) / str(number)),
            {**plain, **known},
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what fails in the block, and end the log with it."""
        try:
            yield
        except Exception as error:  # whatever a package makes of a full disk or a lost server
            self._failed = True
            self._say(f"loggers: {self._name} fails ({one_line(error)}); it gets nothing more")


def _numbers(report: TrialReport) -> dict[str, Any]:
    """Return what is logged of a report; the step is training samples."""
    found = {name: getattr(report, name) for name in SCALARS}
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    return finite | {"timesteps_total": report.samples, "training_iteration": report.samples}
