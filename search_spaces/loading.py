"""Read an experiment: its YAML file, and what the command line changes in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from errors import InputError, did_you_mean, one_line, shown
from partitions import named
from search_spaces.extending import SpaceFile, file_of, merged, read_files
from search_spaces.mistakes import explained
from search_spaces.recorded import EARLIER
from search_spaces.schedulers import SETTINGS, sections
from search_spaces.schema import Experiment, SearchConfig
from yaml_files import DEPTH, read_yaml

QUICK = {
    "data.partitions": [1, 10, 100],
    "data.shots": [],
    "search.trials": 6,
    "search.samples": 1000,
    "final.seeds": 3,
}
QUICK_METHODS = ("zero_shot", "frozen", "layer_norm", "llrd")
"""What `--quick` changes in a search space, and the methods that it keeps of those there are."""
NAMED = 3  # further mistakes that a message names; it counts the others


def load_experiment(
    path: Path,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    trials: int | None = None,
    methods: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    quick: bool = False,
) -> Experiment:
    """Read and validate a search space.

    Args:
        path: the YAML file, which may extend others.
        settings: `key.path=value` strings, values in YAML (`--set`).
        overrides: dotted keys to values, as given by other options of the command line.
        trials: of every cell, instead of what the file says for all or single methods.
        methods: the only ones to keep, beside the probe that they may start from.
        defaults: dotted keys to values that replace the file's; everything above wins over them.
        quick: few methods, partitions and trials, unless something above says otherwise; the name
            ends in -quick.

    With `defaults` or `quick` nobody has chosen the file's methods, unless `methods` does. Those
    that an encoder without a text tower cannot have are left out then.

    Raises:
        InputError: a mistake, in one line that names file, key and what is allowed.
    """
    files = read_files(path)
    tree = merged(files)
    if "identity" in tree:  # it is the experiment.yaml of a run, which says more than the settings
        tree = {key: value for key, value in tree.items() if key not in ("identity", EARLIER)}
    _set_defaults(tree, (QUICK if quick else {}) | dict(defaults or {}))
    options = _override(tree, settings, overrides or {}, trials)
    named = "name" in options
    if "name" not in tree:
        tree["name"], options["name"] = path.stem, f"{path}: its file name, unless --name is given"
    if quick and not named:  # the whole search, which does not continue this one, has the name
        tree["name"] = f"{tree['name']}-quick"
    experiment = _validated(tree, files, options)
    kept = list(methods) or [name for name in QUICK_METHODS if quick and name in experiment.methods]
    if kept:
        experiment = _with_methods(experiment, kept, files)
    if experiment.models:
        _check_encoders(experiment, files)
        return experiment
    if experiment.model.reads_text:
        return experiment
    ready = bool(defaults or quick) and not methods
    return _without_text(experiment, files, ready)


def _check_encoders(experiment: Experiment, files: Sequence[SpaceFile]) -> None:
    """Raise InputError where one of several encoders cannot have what methods are left to it."""
    rows = {
        name: [named(amount) for amount in experiment.data.amounts] for name in experiment.methods
    }
    for name, model in experiment.models.items():
        try:
            experiment.of_encoder(name, rows)
        except ValidationError as error:
            raise InputError(
                f"{files[0].path}: models.{name}: {model.name} has no text tower; without the "
                f"methods that need one: {explained(error.errors()[0])}"
            ) from None


def _without_text(
    experiment: Experiment, files: Sequence[SpaceFile], leave_out: bool
) -> Experiment:
    """Fit the methods to an encoder without a text tower; those that need one may be left out.

    Raises:
        InputError: a method that is not left out needs one.
    """
    methods = {name: method.without_text for name, method in experiment.methods.items()}
    needy = [name for name, method in methods.items() if method.needs_zero_shot]
    if leave_out and len(needy) < len(methods):
        methods = {name: method for name, method in methods.items() if name not in needy}
    elif needy:
        others = ",".join(name for name in methods if name not in needy)
        raise InputError(
            f"{files[0].path}: methods.{needy[0]}: uses a text tower, and {experiment.model.name} "
            f"has none; allowed: {f'--methods {others}' if others else 'another method or encoder'}"
        )
    tree = experiment.model_dump(mode="python")
    tree["methods"] = {name: method.model_dump() for name, method in methods.items()}
    return _validated(tree, files, {})


def _override(
    tree: dict[str, Any], settings: Sequence[str], overrides: Mapping[str, Any], trials: int | None
) -> dict[str, str]:
    """Change `tree` as the command line says; return the option of each changed dotted key."""
    options: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(piece.strip() for piece in key.split(".")):
            raise InputError(f"--set {shown(setting)}: expected key.path=value")
        where = f"--set {one_line(key)}"
        made = _assign(tree, key.strip(), read_yaml(value, where), f"--set {shown(setting)}")
        options |= dict.fromkeys([*made, key.strip()], where)
        _without_default(tree, key.strip())
    if "models" in overrides:
        tree.pop("model", None)
    elif "model.name" in overrides:
        tree.pop("models", None)
    for key, value in overrides.items():
        _assign(tree, key, value, key)
        options[key] = "--model" if key.startswith("model.") else f"--{key.split('.')[-1]}"
    if trials is not None:
        _set_for_all(tree, "search.trials", trials, "--trials")
        options["search.trials"] = "--trials"
    return options


def _set_defaults(tree: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for key, value in defaults.items():
        if key in ("search.trials", "search.samples"):
            search = tree.get("search")
            own = search.get(key.split(".")[-1]) if isinstance(search, dict) else None
            least = min(own, value) if isinstance(own, int) else value
            _set_for_all(tree, key, least, "--quick")
        else:
            _assign(tree, key, value, key)


def _set_for_all(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a key of `search`, also where a method has a value of its own."""
    _assign(tree, key, value, where)
    methods = tree.get("methods")
    if isinstance(methods, dict):
        own = key.split(".")[-1]
        tree["methods"] = {
            name: {k: v for k, v in method.items() if k != own}
            if isinstance(method, dict)
            else method
            for name, method in methods.items()
        }


def _without_default(tree: dict[str, Any], key: str) -> None:
    """Drop the default of a parameter that was fixed; nothing else could be meant."""
    match key.split("."):
        case ["methods", method, "space", name]:
            section = tree["methods"][method]
            fixed = not isinstance(section["space"][name], dict)
            if fixed and isinstance(default := section.get("default"), dict):
                section["default"] = {k: value for k, value in default.items() if k != name}


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> list[str]:
    """Set the value of a dotted key; return the keys of the sections made above it."""
    *parents, last = key.split(".", maxsplit=DEPTH)
    if "." in last:
        raise InputError(f"{where}: more than {DEPTH} keys inside one another")
    node: Any = tree
    made = []
    for place, parent in enumerate(parents, start=1):
        if parent not in node:
            made.append(".".join(parents[:place]))
        child = node.get(parent, {})
        if not isinstance(child, dict):
            raise InputError(f"{where}: {' '.join(parent.split())} holds a value, not keys")
        node[parent] = dict(child)  # a copy, as YAML's anchors share one
        node = node[parent]
    node[last] = value
    return made


def _validated(
    tree: dict[str, Any], files: Sequence[SpaceFile], options: Mapping[str, str]
) -> Experiment:
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(_one_line(error, files, options)) from None


def _one_line(
    error: ValidationError, files: Sequence[SpaceFile], options: Mapping[str, str]
) -> str:
    """Describe the first mistake: file and key or option, what is wrong, and what is allowed."""
    by_key = {_key(details["loc"]): details for details in error.errors(include_url=False)}
    (key, first), *others = by_key.items()
    *parents, last = (str(piece) for piece in first["loc"] or ("",))
    if first["type"] == "extra_forbidden":
        known = _fields(parents)
        message = f"unknown key; {did_you_mean(last, known)}allowed: {', '.join(known)}"
    else:
        message = explained(first)
    if others:
        more = [other or "the whole" for other, _ in others[:NAMED]]
        more += [f"{len(others) - NAMED} more"] if len(others) > NAMED else []
        message += f" (also wrong: {', '.join(more)})"
    for given, option in options.items():  # a whole section's message begins with a key in it
        name = f"{given.split('.')[-1]}: "
        if option.startswith("--set ") and given.startswith(f"{key}.") and message.startswith(name):
            return f"{option}: {message.removeprefix(name)}"
    file = file_of(key, message, files)
    return " ".join(f"{_where(key, str(file), options)}: {message}".split())


def _key(place: tuple[int | str, ...]) -> str:
    """Return a dotted key, without what pydantic says of its types there."""
    return ".".join(str(piece) for piece in place if piece not in ("int", "float", "[key]"))


def _where(key: str, file: str, options: Mapping[str, str]) -> str:
    """Name the option of the command line that set a key, or the key in the file."""
    where = f"{file}: {key}" if key else file
    for given, option in options.items():
        if key == given and option.startswith("--set "):
            where = option
        elif key == given or key.startswith(f"{given}."):
            where = f"--set {key}" if option.startswith("--set ") else option
    return where


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


def _with_methods(
    experiment: Experiment, methods: list[str], files: Sequence[SpaceFile]
) -> Experiment:
    """Keep some methods, and the probe if they may start from its head."""
    for method in methods:
        if method not in experiment.methods:
            hint = did_you_mean(method, experiment.methods)
            raise InputError(
                f"--methods {shown(method)}: not in {files[0].path}; {hint}"
                f"allowed: {', '.join(experiment.methods)}"
            )
    needed = {*methods}
    if experiment.probe and any(experiment.methods[m].needs_probe for m in methods):
        needed.add(experiment.probe)
    tree = experiment.model_dump(mode="python")
    tree["methods"] = {name: m for name, m in tree["methods"].items() if name in needed}
    if tree["report"]["gain"] not in needed:
        tree["report"]["gain"] = None
    return _validated(tree, files, {})
