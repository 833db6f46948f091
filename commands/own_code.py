"""The option by which a command imports a user's own code; without it none is run."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from errors import InputError, one_line, shown
from files import expanded

REGISTRIES = {
    "data.sources": ("SOURCES", "SourceKind"),
    "models.solvers": ("SOLVERS", "Solver"),
    "models.towers": ("TOWERS", "TowerFamily"),
}
"""The modules that hold instances a user may add, the registry's name, and what it holds."""


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add `--import`; the code has run when the command line is read."""
    parser.add_argument(
        "--import",
        action=_Import,
        metavar="CODE",
        help="run code of your own first, which adds sources, encoder families, solvers or "
        "schedulers: FILE.py, or the dotted name of an installed module; may be repeated",
    )


class _Import(argparse.Action):
    """Imports what the option names."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, **options)

    def __call__(
        self, parser: object, namespace: object, code: Any, option_string: str | None = None
    ) -> None:
        file = expanded(code, "--import") if code.endswith(".py") else None
        if file and not file.is_file():
            raise InputError(f"--import {code}: no such file")
        if not file and not all(map(str.isidentifier, code.split("."))):
            raise InputError(f"--import {code}: allowed: FILE.py, or a module's dotted name")
        try:
            _import_file(file) if file else import_module(code)
        except (Exception, SystemExit) as error:  # code of others may raise anything
            reason = one_line(error, 300) or "no reason given"
            raise InputError(f"--import {code}: {type(error).__name__}: {reason}") from error
        _check_registries(code)


def _check_registries(code: str) -> None:
    """Raise InputError if what was added to a registry is not what belongs there."""
    for module, (registry, kind) in REGISTRIES.items():
        if (imported := sys.modules.get(module)) is None:
            continue  # nothing was added
        entries, needed = getattr(imported, registry), getattr(imported, kind)
        named = entries.items() if isinstance(entries, dict) else enumerate(entries)
        for name, entry in named:
            if not isinstance(entry, needed):
                raise InputError(
                    f"--import {code}: {registry}[{name!r}] is {shown(entry)}; allowed: an "
                    f"instance of a {kind}"
                )


def _import_file(file: Path) -> None:
    """Import a file under a name that no module of this project or of a library has.

    It finds the modules beside it, as a script does, behind all others.
    """
    sys.path.append(str(file.parent.resolve()))
    name = "own_" + re.sub(r"\W", "_", file.stem)
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
