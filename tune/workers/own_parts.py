"""Parts of a user's own in the registries: sources, encoder families, solvers, schedulers."""

from __future__ import annotations

import ast
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec, resolve_name
from pathlib import Path

from ray import cloudpickle

from data.sources import SOURCES
from models.solvers import SOLVERS, Solver
from models.towers import TOWERS
from tune.search.schedulers import SCHEDULERS

OURS = ("data", "models", "tune")
"""The packages with the project's own parts, which every worker has."""
PROJECT = {
    *OURS,
    *("benchmarks", "commands", "pretraining", "records", "report", "search_spaces"),
    *("disk", "docstrings", "errors", "files", "metrics", "partitions", "run_search", "sections"),
    *("terminal", "text", "yaml_files"),
}
"""All of the project's packages and modules; files of a user's may lie beside them."""
LIBRARIES = {
    Path(place).resolve()
    for place in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        *(*site.getsitepackages(), site.getusersitepackages(), sys.prefix),
    )
}


def take_along() -> None:
    """Have Ray's workers get all that belongs to a user's parts with its contents.

    They have not run the program that added a part, and may not find its files. What a part imports
    only as it works is not among it.
    """
    for name in _own_modules():
        if name != "__main__" and name in sys.modules:  # what is in __main__ goes along anyway
            cloudpickle.register_pickle_by_value(sys.modules[name.partition(".")[0]])


def code_digest() -> str:
    """Digest the files of the user's parts and of what these import; empty if there are none.

    It is the same wherever the files lie, and whatever has been imported yet.
    """
    files = filter(None, map(_file, _own_modules()))
    digests = sorted(hashlib.sha256(file.read_bytes()).digest() for file in files)
    return hashlib.sha256(b"".join(digests)).hexdigest() if digests else ""


def own_solvers() -> dict[str, Solver]:
    """Return the solvers that a user has added, by name."""
    return {name: solver for name, solver in SOLVERS.items() if not _ours(type(solver))}


def _own_modules() -> set[str]:
    """Name the modules that the user's parts are in, and all of the user's that these import."""
    found: set[str] = set()
    waiting = {kind.__module__ for kind in _kinds() if not _ours(kind)}
    while waiting:
        found.add(name := waiting.pop())
        waiting |= {other for other in _imported(name) if _of_user(other, name)}
        waiting -= found
    return found


def _imported(name: str) -> Iterator[str]:
    """Yield what may be modules, as a module's import statements name them."""
    if (file := _file(name)) is None:
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = resolve_name(base, package) if node.level else base
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for each in names:
            pieces = each.split(".")
            yield from (".".join(pieces[: n + 1]) for n in range(len(pieces)))


def _of_user(name: str, importer: str) -> bool:
    """Whether a name is of a module of the user's: in the importer's package, or in no other's."""
    package = name.partition(".")[0]
    if package == importer.partition(".")[0]:
        return _file(name) is not None
    if package in PROJECT or package in sys.stdlib_module_names:
        return False
    file = _file(package)
    library = file is None or any(file.is_relative_to(place) for place in LIBRARIES)
    return not library and _file(name) is not None


def _file(name: str) -> Path | None:
    """Find a module's source; None if it has none, or there is no such module."""
    try:
        module = sys.modules.get(name)
        spec = None if module else find_spec(name)
    except (ImportError, ValueError, AttributeError):  # a part of its name is no package
        return None
    place = getattr(module, "__file__", None) or (spec.origin if spec else None)
    file = Path(place or "")
    return file.resolve() if file.suffix == ".py" and file.is_file() else None


def _kinds() -> Iterator[type]:
    yield from map(type, (*SOURCES.values(), *SOLVERS.values(), *TOWERS))
    yield from SCHEDULERS.values()


def _ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OURS
