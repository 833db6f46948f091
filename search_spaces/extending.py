"""Read a search space file and those that it extends, and lay them over one another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InputError, did_you_mean, shown
from files import expanded, reason
from yaml_files import read_yaml, text_of

EXTENDS = "extends"
"""The key that names the file below: a path ending in .yaml, or a ready space such as `vit`."""
READY = Path(__file__).resolve().parent
"""The folder of the ready search spaces."""
MOST_FILES = 8
ENDINGS = (".yaml", ".yml")

Tree = dict[str, Any]


@dataclass(frozen=True)
class SpaceFile:
    """A file of a search space, with the keys that it holds itself."""

    path: Path
    own: Tree


def read_files(path: Path) -> tuple[SpaceFile, ...]:
    """Read a search space, then the file that it extends, and so on.

    Raises:
        InputError: a file is missing, is not YAML, extends itself, or there are too many.
    """
    files: list[SpaceFile] = []
    place: Path | None = path
    while place is not None:
        files.append(SpaceFile(place, _read(place)))
        below = _extended(files[-1])
        if below and below.resolve() in (file.path.resolve() for file in files):
            raise InputError(f"{place}: {EXTENDS}: {below} extends this file, or is it")
        if below and len(files) == MOST_FILES:
            raise InputError(f"{place}: {EXTENDS}: more than {MOST_FILES} files upon one another")
        place = below
    return tuple(files)


def merged(files: Sequence[SpaceFile]) -> Tree:
    """Return the keys of all files; what stands in an earlier one replaces or extends the later.

    A name is of its own file alone. A method that is null is removed.
    """
    *above, last = files
    tree = last.own
    for file in reversed(above):
        base = {key: value for key, value in tree.items() if key != "name"}
        tree = _over(base, file.own)
    return tree


def file_of(key: str, message: str, files: Sequence[SpaceFile]) -> Path:
    """Find the file in which a dotted key stands, or else the first.

    The message about a whole section, such as a method, begins with a key in it.
    """
    inner = message.partition(": ")[0]
    for place in (f"{key}.space.{inner}", f"{key}.{inner}", key):
        for file in files:
            if _holds(file.own, place):
                return file.path
    return files[0].path


def _read(path: Path) -> Tree:
    try:
        text = text_of(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); expected a YAML search space"
        ) from None
    tree = read_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise InputError(
            f"{path}: expected keys and values such as `name: food`, got {shown(tree)}"
        )
    return tree


def _extended(file: SpaceFile) -> Path | None:
    """Find the file that `file` extends, and take the key out of it."""
    named = file.own.pop(EXTENDS, None)
    if named is None:
        return None
    where = f"{file.path}: {EXTENDS}"
    if not isinstance(named, str) or not named.strip():
        raise InputError(f"{where}: {shown(named)} is no file. Allowed: one such as vit")
    ready = sorted(path.stem for path in READY.glob("*.yaml"))
    if named.endswith(ENDINGS):
        found = file.path.parent / expanded(named, where)
    else:
        found = READY / f"{named}.yaml"
    if not (os.path.isfile(found) if named.endswith(ENDINGS) else named in ready):
        raise InputError(
            f"{where}: no file {shown(named)}; {did_you_mean(named, ready)}"
            f"allowed: a path that ends in .yaml, or {', '.join(ready)}"
        )
    return found


def _over(base: Tree, own: Tree) -> Tree:
    """Lay the keys of a file over those of the file that it extends.

    Several encoders replace the one, and the one several.
    """
    for one, other in (("model", "models"), ("models", "model")):
        if one in own:
            base = {key: value for key, value in base.items() if key != other}
    tree = _deep(base, {key: value for key, value in own.items() if key != "methods"})
    before, given = base.get("methods"), own.get("methods")
    if not isinstance(before, dict) or not isinstance(given, dict):
        return tree | ({"methods": given} if "methods" in own else {})
    both = {name: _method(before[name], given[name]) for name in before if name in given}
    removed = {name for name in both if given[name] is None}
    methods = {
        name: method for name, method in {**before, **given, **both}.items() if name not in removed
    }
    return tree | {"methods": methods}


def _method(base: Any, own: Any) -> Any:
    """Lay a method over another: its parameters replace, each as a whole."""
    if not isinstance(base, dict) or not isinstance(own, dict):
        return own
    method = _deep(base, own)
    before, given = base.get("space"), own.get("space")
    if isinstance(before, dict) and isinstance(given, dict):
        method["space"] = {**before, **given}
        fixed = {name for name, value in given.items() if not isinstance(value, dict)}
        kept = own.get("default") or {}
        if isinstance(method.get("default"), dict):  # a value that is fixed has no default
            method["default"] = {
                name: value
                for name, value in method["default"].items()
                if name not in fixed or name in kept
            }
    return method


def _deep(base: Tree, own: Tree) -> Tree:
    """Merge mappings; lists and values replace. Neither is changed, as YAML's anchors share."""
    tree = dict(base)
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(tree.get(key), dict)
        tree[key] = _deep(tree[key], value) if both else value
    return tree


def _holds(tree: Any, key: str) -> bool:
    for piece in key.split("."):
        if not isinstance(tree, dict) or piece not in tree:
            return False
        tree = tree[piece]
    return True
