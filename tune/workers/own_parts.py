"""Parts of a user's own in the registries: sources, encoder families, solvers, schedulers."""

from __future__ import annotations

import ast
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

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
LIBRARIES = (
    *{Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
    *map(Path, (*site.getsitepackages(), site.getusersitepackages(), sys.prefix)),
)


def take_along() -> None:
    """Have Ray's workers get all that belongs to a user's parts with its contents.

    They have not run the program that added a part, and may not find its files.
    """
    for module in _own_modules():
        if module != "__main__":  # what is in it goes along anyway
            cloudpickle.register_pickle_by_value(sys.modules[module.partition(".")[0]])


def code_digest() -> str:
    """Digest the files of the user's parts and of what these import; empty if there are none."""
    files = [_file(sys.modules[module]) for module in _own_modules()]
    contents = [file.read_bytes() for file in sorted(filter(None, files))]
    whole = b"".join(hashlib.sha256(content).digest() for content in contents)
    return hashlib.sha256(whole).hexdigest() if contents else ""


def own_solvers() -> dict[str, Solver]:
    """Return the solvers that a user has added, by name."""
    return {name: solver for name, solver in SOLVERS.items() if not _ours(type(solver))}


def _own_modules() -> set[str]:
    """Name the modules that the user's parts are in, and all of the user's that these import."""
    found: set[str] = set()
    waiting = {kind.__module__ for kind in _kinds() if not _ours(kind)}
    while waiting:
        found.add(name := waiting.pop())
        waiting |= {other for other in _imported(sys.modules[name]) if _of_user(other, name)}
        waiting -= found
    return found


def _imported(module: ModuleType) -> Iterator[str]:
    """Yield the modules that are named in another's import statements, and are imported."""
    if (file := _file(module)) is None:
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = resolve_name(base, module.__package__) if node.level else base
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            pieces = name.split(".")
            yield from {".".join(pieces[: n + 1]) for n in range(len(pieces))} & {*sys.modules}


def _of_user(name: str, importer: str) -> bool:
    """Whether a module is the user's: of the importer's package, or of no library and not ours."""
    package = name.partition(".")[0]
    if package == importer.partition(".")[0]:
        return True
    file = _file(sys.modules[name])
    library = file is None or any(file.is_relative_to(place) for place in LIBRARIES)
    return not library and package not in PROJECT


def _file(module: ModuleType) -> Path | None:
    """Find a module's source; None if it has none."""
    file = Path(getattr(module, "__file__", None) or "")
    return file.resolve() if file.suffix == ".py" and file.is_file() else None


def _kinds() -> Iterator[type]:
    yield from map(type, (*SOURCES.values(), *SOLVERS.values(), *TOWERS))
    yield from SCHEDULERS.values()


def _ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OURS
