"""Read the experiment of a run from the `experiment.yaml` that it left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from errors import InputError
from records import EXPERIMENT
from search_spaces.schema import Experiment
from yaml_files import read_yaml, text_of

EARLIER = "earlier_methods"
"""Key of the methods that a resumed run has left out, as they were."""


def read_recorded(run_dir: Path) -> tuple[Experiment, Mapping[str, str]]:
    """Return the experiment of a run, and the identity of its data and model.

    Raises:
        InputError: `run_dir` is not a run's directory, or its experiment is not understood.
    """
    path = run_dir / EXPERIMENT
    try:
        tree = read_yaml(text_of(path), str(path))
        before = dict(tree.pop("identity"))
        tree.pop(EARLIER, None)
        return Experiment.model_validate(tree), before
    except InputError:
        raise
    except (OSError, AttributeError, KeyError, TypeError, ValueError, ValidationError):
        raise InputError(f"{run_dir}: not a run's directory, or of another version") from None
