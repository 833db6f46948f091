"""Whether the places that an experiment names can be used, as far as that is known at once.

Torch and Ray take seconds to import; nothing here needs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from data import check_sources
from errors import InputError
from files import check_folder
from models import config
from records.journal import refuse_held
from search_spaces import Experiment
from tune.storage.mirror import place_of_copy

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""What writes each of the logs of `loggers`."""


def check_loggers(names: Iterable[str]) -> None:
    """Raise InputError if the package of a logger is missing."""
    for name in names:
        if find_spec(package := PACKAGES[name]) is None:
            raise InputError(f"loggers: {package} is not installed: pip install {package}")


def check_places(experiment: Experiment, folder: Path, storage: str | None, fresh: bool) -> None:
    """Check where a run reads from and writes to: its `folder`, its copy, images and encoder.

    Raises:
        InputError: a place is missing or cannot be written to, a `fresh` run would begin in the
            folder of another, or the package of a logger is missing.
    """
    if fresh:
        refuse_held(folder)
    check_folder(folder, "--out")
    check_loggers(experiment.loggers)
    check_sources(experiment.data)
    for name, model in experiment.models.items() or [("", experiment.model)]:
        config.check_places(model, f"models.{name}" if name else "model")
    if storage:
        place_of_copy(folder, storage)
