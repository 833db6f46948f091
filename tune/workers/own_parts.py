"""Parts of a user's own in the registries: sources, encoder families, solvers, schedulers."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ray import cloudpickle

from data.sources import SOURCES
from models.solvers import SOLVERS, Solver
from models.towers import TOWERS
from tune.search.schedulers import SCHEDULERS

OURS = ("data", "models", "tune")
"""The packages with the project's own parts, which every worker has."""


def take_along() -> None:
    """Have Ray's workers get all that belongs to a user's parts with its contents.

    They have not run the program that added a part, and may not find its files.
    """
    for module in _own_modules():
        if module != "__main__":  # what is in it goes along anyway
            cloudpickle.register_pickle_by_value(sys.modules[module.partition(".")[0]])


def code_digest() -> str:
    """Digest the files that the user's parts are in; empty if there are none."""
    files = [
        Path(getattr(sys.modules[module], "__file__", None) or "") for module in _own_modules()
    ]
    contents = [file.read_bytes() for file in sorted(files) if file.is_file()]
    whole = b"".join(hashlib.sha256(content).digest() for content in contents)
    return hashlib.sha256(whole).hexdigest() if contents else ""


def own_solvers() -> dict[str, Solver]:
    """Return the solvers that a user has added, by name."""
    return {name: solver for name, solver in SOLVERS.items() if not _ours(type(solver))}


def _own_modules() -> set[str]:
    return {kind.__module__ for kind in _kinds() if not _ours(kind)}


def _kinds() -> Iterator[type]:
    yield from map(type, (*SOURCES.values(), *SOLVERS.values(), *TOWERS))
    yield from SCHEDULERS.values()


def _ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OURS
