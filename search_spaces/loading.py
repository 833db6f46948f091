"""Read an experiment: its YAML file, and what the command line changes in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data import DataConfig, SourceConfig
from errors import InputError, did_you_mean
from search_spaces.schema import Experiment, MethodConfig
from yaml_files import read_yaml


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
        trials: of every cell, instead of what the file says for all or for single methods.
        methods: the only methods to keep; the probe is kept besides if they start from it.

    Raises:
        InputError: one line naming file, key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a YAML search space"
        ) from None
    tree = read_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected keys and values such as `name: food`, got {tree!r:.60}")
    tree.setdefault("name", path.stem)
    said: dict[str, str] = {}  # keys that do not stand in the file, and the options they are from
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: expected key.path=value")
        where = f"--set {' '.join(key.split())}"
        _assign(tree, key.strip(), read_yaml(value, where), f"--set {setting!r}")
        said[key.strip()] = "--set"
    for key, value in (overrides or {}).items():
        _assign(tree, key, value, key)
        said[key] = f"--{key.split('.')[-1]}"
    if trials is not None:
        said["search.trials"] = "--trials"
        _assign(tree, "search.trials", trials, "--trials")
        given = tree.get("methods")
        for method in given.values() if isinstance(given, dict) else ():
            if isinstance(method, dict):
                method.pop("trials", None)
    experiment = _validated(tree, str(path), said)
    return _with_methods(experiment, list(methods), str(path)) if methods else experiment


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    node: Any = tree
    for parent in parents:
        child = node.get(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"{where}: {' '.join(parent.split())} holds a value, not keys")
        node[parent] = dict(child)  # a copy, as YAML's anchors share one
        node = node[parent]
    node[last] = value


def _validated(
    tree: dict[str, Any], where: str, said: Mapping[str, str] | None = None
) -> Experiment:
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(_one_line(error, where, said or {})) from None


def _one_line(error: ValidationError, file: str, said: Mapping[str, str]) -> str:
    """The first mistake: file and key or the option, what is wrong and what is allowed."""
    first = error.errors()[0]
    key = ".".join(str(piece) for piece in first["loc"])
    where = f"{file}: {key}" if key else file
    for given, option in said.items():
        if key == given or key.startswith(f"{given}."):
            where = f"--set {key}" if option == "--set" else option
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
    got = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r:.80}"
    return " ".join(f"{where}: {message}{got}{more}".split())


LONGEST = 500  # characters of what is said of one mistake
_PLAIN = {
    "tuple_type": "expected a list, as in [a, b]",
    "model_type": "expected keys and values",
    "dict_type": "expected keys and values",
}


def _fields(parents: list[str]) -> list[str]:
    """The keys allowed under `parents`."""
    node: Any = Experiment
    for parent in parents:
        if node in _NAMED.values():  # a section whose keys are the user's own names
            node = next(config for config, section in _NAMED.items() if section is node)
        else:
            node = node.model_fields[parent].annotation
    return list(node.model_fields) if hasattr(node, "model_fields") else []


_NAMED = {
    MethodConfig: Experiment.model_fields["methods"].annotation,
    SourceConfig: DataConfig.model_fields["extra_tests"].annotation,
}


def _with_methods(experiment: Experiment, methods: list[str], where: str) -> Experiment:
    for method in methods:
        if method not in experiment.methods:
            hint = did_you_mean(method, experiment.methods)
            raise InputError(
                f"--methods {method!r}: not in {where}; {hint}"
                f"allowed: {', '.join(experiment.methods)}"
            )
    needed = {*methods}
    if experiment.probe and any(experiment.methods[m].needs_probe for m in methods):
        needed.add(experiment.probe)
    tree = experiment.model_dump(mode="python")
    tree["methods"] = {name: m for name, m in tree["methods"].items() if name in needed}
    if tree["report"]["gain"] not in needed:
        tree["report"]["gain"] = None
    return _validated(tree, where)
