"""Parts of a user's own in the registries: sources, encoder families, solvers, schedulers."""

from __future__ import annotations

import sys
from pathlib import Path

from ray import cloudpickle

from data.sources import SOURCES
from models.solvers import SOLVERS, Solver
from models.towers import TOWERS
from tune.search.schedulers import SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]


def take_along() -> None:
    """Have Ray's workers get all that belongs to a user's parts with its contents.

    They have not run the program that added a part, and may not find its files.
    """
    schedulers = SCHEDULERS.values()
    for kind in (*map(type, (*SOURCES.values(), *SOLVERS.values(), *TOWERS)), *schedulers):
        package = kind.__module__.partition(".")[0]
        if package != "__main__" and not _here(package):  # __main__'s go along anyway
            cloudpickle.register_pickle_by_value(sys.modules[package])


def own_solvers() -> dict[str, Solver]:
    """Return the solvers that a user has added, by name."""
    return {
        name: solver
        for name, solver in SOLVERS.items()
        if not _here(type(solver).__module__.partition(".")[0])
    }


def _here(package: str) -> bool:
    """Say whether a package is the project's, which every worker has."""
    return (ROOT / package).is_dir() or (ROOT / f"{package}.py").is_file()
