"""Read the experiment of a run from the `experiment.yaml` that it left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from errors import InputError, one_line
from records import EXPERIMENT
from search_spaces.mistakes import explained
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
    if not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such folder; needed is a run's, such as results/digits")
    if not path.is_file():
        raise InputError(f"{run_dir} holds no run: it has no {EXPERIMENT}")
    try:
        tree = read_yaml(text_of(path), str(path))
        before = dict(tree.pop("identity"))
        tree.pop(EARLIER, None)
        return Experiment.model_validate(tree), before
    except InputError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: of another version, or made with --import ({place}: {explained(first)})"
        ) from None
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged, or of no run ({one_line(error)})") from None
