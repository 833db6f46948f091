"""Read an experiment: its YAML file, and what the command line changes in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from errors import InputError, did_you_mean, one_line, shown
from search_spaces.schedulers import SETTINGS, sections
from search_spaces.schema import Experiment, SearchConfig
from yaml_files import DEPTH, read_yaml, text_of

LONGEST = 500  # characters of the message about one mistake
_PLAIN = {
    "tuple_type": "expected a list, as in [a, b]",
    "model_type": "expected keys and values",
    "dict_type": "expected keys and values",
}


def load_experiment(
    path: Path,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    trials: int | None = None,
    methods: Iterable[str] = (),
) -> Experiment:
    """Read and validate a search space.

    Args:
        path: the YAML file.
        settings: `key.path=value` strings, values in YAML (`--set`).
        overrides: dotted keys to values, as given by other options of the command line.
        trials: of every cell, instead of what the file says for all or single methods.
        methods: the only ones to keep, beside the probe that they may start from.

    Raises:
        InputError: a mistake, in one line that names file, key and what is allowed.
    """
    tree = _read(path)
    options = _override(tree, settings, overrides or {}, trials)
    experiment = _validated(tree, str(path), options)
    return _with_methods(experiment, list(methods), str(path)) if methods else experiment


def _read(path: Path) -> dict[str, Any]:
    try:
        text = text_of(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a YAML search space"
        ) from None
    tree = read_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise InputError(
            f"{path}: expected keys and values such as `name: food`, got {shown(tree)}"
        )
    tree.setdefault("name", path.stem)
    return tree


def _override(
    tree: dict[str, Any], settings: Sequence[str], overrides: Mapping[str, Any], trials: int | None
) -> dict[str, str]:
    """Change `tree` as the command line says; return the option of each changed dotted key."""
    options: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {shown(setting)}: expected key.path=value")
        where = f"--set {one_line(key)}"
        _assign(tree, key.strip(), read_yaml(value, where), f"--set {shown(setting)}")
        options[key.strip()] = "--set"
    for key, value in overrides.items():
        _assign(tree, key, value, key)
        options[key] = f"--{key.split('.')[-1]}"
    if trials is not None:
        _assign(tree, "search.trials", trials, "--trials")
        options["search.trials"] = "--trials"
        methods = tree.get("methods")
        for method in methods.values() if isinstance(methods, dict) else ():
            if isinstance(method, dict):
                method.pop("trials", None)
    return options


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set the value of a dotted key, and make the sections above it."""
    *parents, last = key.split(".", maxsplit=DEPTH)
    if "." in last:
        raise InputError(f"{where}: more than {DEPTH} keys inside one another")
    node: Any = tree
    for parent in parents:
        child = node.get(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"{where}: {' '.join(parent.split())} holds a value, not keys")
        node[parent] = dict(child)  # a copy, as YAML's anchors share one
        node = node[parent]
    node[last] = value


def _validated(tree: dict[str, Any], where: str, options: Mapping[str, str]) -> Experiment:
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(_one_line(error, where, options)) from None


def _one_line(error: ValidationError, file: str, options: Mapping[str, str]) -> str:
    """Describe the first mistake: file and key or option, what is wrong, and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(piece) for piece in first["loc"])
    where = f"{file}: {one_line(key)}" if key else file
    for given, option in options.items():
        if key == given or key.startswith(f"{given}."):
            where = f"--set {one_line(key)}" if option == "--set" else option
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        *parents, last = (str(piece) for piece in first["loc"])
        known = _fields(parents)
        hint = did_you_mean(last, known)
        line = f"{where}: unknown key; {hint}allowed: {', '.join(known)}{more}"
        return " ".join(line.split())
    message = _PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
    if len(message) > LONGEST:  # it quotes half the file
        message = f"{message[:LONGEST]} …"
    got = "" if first["type"] in ("missing", "value_error") else f", got {shown(first['input'])}"
    return " ".join(f"{where}: {message}{got}{more}".split())


def _fields(parents: list[str]) -> list[str]:
    """Return the keys that are allowed under `parents`."""
    node: Any = Experiment
    for parent in parents:
        if get_origin(node) is dict:  # its keys are the user's own names
            node = get_args(node)[1]
        elif node is SearchConfig and parent in SETTINGS:
            node = SETTINGS[parent]
        else:
            node = node.model_fields[parent].annotation
    return [*node.model_fields, *(sections() if node is SearchConfig else ())]


def _with_methods(experiment: Experiment, methods: list[str], where: str) -> Experiment:
    """Keep some methods, and the probe if they may start from its head."""
    for method in methods:
        if method not in experiment.methods:
            hint = did_you_mean(method, experiment.methods)
            raise InputError(
                f"--methods {shown(method)}: not in {where}; {hint}"
                f"allowed: {', '.join(experiment.methods)}"
            )
    needed = {*methods}
    if experiment.probe and any(experiment.methods[m].needs_probe for m in methods):
        needed.add(experiment.probe)
    tree = experiment.model_dump(mode="python")
    tree["methods"] = {name: m for name, m in tree["methods"].items() if name in needed}
    if tree["report"]["gain"] not in needed:
        tree["report"]["gain"] = None
    return _validated(tree, where, {})
