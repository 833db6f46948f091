"""The experiment: everything a run is told, validated before anything heavy starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data import DataConfig, SourceConfig
from errors import InputError, did_you_mean
from models.config import AugmentationConfig, ModelConfig
from search_spaces.distributions import Space, parse_space
from search_spaces.schedulers import SETTINGS, SchedulerConfig, parse_sections, sections

MOST = 10**12  # samples or the like: more than anyone trains, and numbers that fit everywhere


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class SearchConfig(_Config):
    """How every cell is searched; beside its own keys, a section for each scheduler's settings."""

    model_config = ConfigDict(extra="allow")

    trials: int = Field(16, ge=1, le=MOST, description="configurations a cell tries")
    samples: int = Field(
        100_000, ge=1, le=MOST, description="the horizon: training samples a full trial sees"
    )
    evaluations: int = Field(
        3, ge=1, le=10_000, description="evenly spaced evaluations, beside the rungs'"
    )
    scheduler: str = "asha"
    sampler: Literal["tpe", "random"] = "tpe"
    transfer: int = Field(
        0, ge=0, le=MOST, description="trials of a cell that smaller partitions' best may take"
    )

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        return own | parse_sections({k: v for k, v in given.items() if k not in own})

    @field_validator("scheduler")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SETTINGS:
            hint = did_you_mean(name, SETTINGS)
            raise ValueError(f"{name!r}: unknown scheduler; {hint}allowed: {', '.join(SETTINGS)}")
        return name

    @property
    def settings(self) -> SchedulerConfig:
        """The settings of the scheduler that is named."""
        found: SchedulerConfig = getattr(self, self.scheduler, SchedulerConfig())
        return found


class FinalConfig(_Config):
    """How winners are measured, and what is tried by validation after each of their fits."""

    seeds: int = Field(3, ge=1, le=100, description="final fits of each winner")
    ema: bool = Field(True, description="try the weights averaged over steps")
    wise_ft: tuple[float, ...] = Field(
        (0.5, 0.75), description="shares of the way from start to tuned weights to try"
    )
    export: bool = Field(True, description="keep the weights of every final fit")

    @field_validator("wise_ft")
    @classmethod
    def _between(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if wrong := [alpha for alpha in alphas if not 0 < alpha < 1]:
            raise ValueError(f"{wrong[0]:g} is not between 0 and 1, both excluded")
        return alphas


class ResourcesConfig(_Config):
    """What one trial takes; trials run side by side as far as the machines go."""

    gpus_per_trial: float = Field(
        1.0, gt=0, le=1, allow_inf_nan=False, description="a share of a GPU, where there are any"
    )
    cpus_per_trial: float = Field(1.0, gt=0, allow_inf_nan=False)
    report_seconds: float = Field(
        6 * 3600,
        gt=0,
        allow_inf_nan=False,
        le=1e6,
        description="without a report for so long, a trial hangs: its process is ended",
    )


class FeaturesConfig(_Config):
    """Features: where they are cached and how they are computed."""

    cache: Path | None = Field(None, description="folder; a user cache folder without")
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = Field(64, ge=1, le=65536)


class ReportConfig(_Config):
    """What the table compares with the probe."""

    gain: str | None = Field(None, description="the method whose gain is shown")


class MethodConfig(_Config):
    """A method: a column of the table, with its own space."""

    space: dict[str, Any]
    default: dict[str, Any] = {}
    trials: int | None = Field(None, ge=1, le=MOST, description="instead of search.trials")
    samples: int | None = Field(None, ge=1, le=MOST, description="instead of search.samples")

    @cached_property
    def parsed(self) -> Space:
        return parse_space(self.space, self.default)

    @model_validator(mode="after")
    def _valid_space(self) -> MethodConfig:
        if not self.space:
            raise ValueError("space: is empty; name at least `blocks`")
        _ = self.parsed
        return self

    @property
    def frozen_encoder(self) -> bool:
        """Whether every trial leaves the encoder as it is."""
        return set(self.parsed.reachable("blocks")) == {"none"}

    @property
    def probes(self) -> bool:
        """Whether every trial is a probe: a head that is trained, on a frozen encoder."""
        return self.frozen_encoder and "none" not in self.parsed.reachable("solver")

    @property
    def needs_probe(self) -> bool:
        """Whether a trial may start from the partition's best probe head."""
        return not self.frozen_encoder and "probe" in self.parsed.reachable("head_start")

    @property
    def needs_zero_shot(self) -> bool:
        """Whether a trial may start from the text tower's classifier."""
        return "zero_shot" in self.parsed.reachable("head_start")

    @property
    def views(self) -> int:
        """The most augmented copies of an image that a trial may use."""
        return int(max(self.parsed.reachable("views")))


class Experiment(_Config):
    """One run: data, encoder, methods, and how to search and to measure them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    search: SearchConfig = SearchConfig()
    final: FinalConfig = FinalConfig()
    resources: ResourcesConfig = ResourcesConfig()
    features: FeaturesConfig = FeaturesConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    report: ReportConfig = ReportConfig()
    methods: dict[str, MethodConfig] = Field(min_length=1)

    @field_validator("methods")
    @classmethod
    def _method_names(cls, methods: dict[str, MethodConfig]) -> dict[str, MethodConfig]:
        for name in methods:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"{name!r}: letters, digits, _ and - only, 64 at most")
        return methods

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        # Journal and files name partitions by six significant digits.
        if long := [p for p in self.data.partitions if float(f"{p:g}") != p]:
            raise ValueError(f"data.partitions: {long[0]} has more than six significant digits")
        if self.report.gain is not None and self.report.gain not in self.methods:
            raise ValueError(
                f"report.gain: no method {self.report.gain!r}; allowed: {', '.join(self.methods)}"
            )
        if self.probe is None and (needy := [n for n, m in self.methods.items() if m.needs_probe]):
            raise ValueError(
                f"methods.{needy[0]}: starts from a probe's head, but no method has blocks: none; "
                "allowed: add one, or head_start: zeros or zero_shot"
            )
        return self

    @property
    def probe(self) -> str | None:
        """The method whose winners the others' heads start from: the first of probes."""
        return next((name for name, m in self.methods.items() if m.probes), None)

    @property
    def needs_zero_shot(self) -> bool:
        """Whether any method uses the text tower."""
        return any(method.needs_zero_shot for method in self.methods.values())

    @property
    def views(self) -> int:
        """How many augmented copies of each training image are to be cached."""
        return max(method.views for method in self.methods.values())

    def trials(self, method: str) -> int:
        """Trials of each of the method's cells: no more than its space has configurations."""
        config = self.methods[method]
        return int(min(config.trials or self.search.trials, config.parsed.size))

    def horizon(self, method: str) -> int:
        """Samples a full trial of the method sees, at every partition."""
        return self.methods[method].samples or self.search.samples

    def resolved(self) -> dict[str, Any]:
        """Plain values, as written to experiment.yaml."""
        return self.model_dump(mode="json")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, more careful: 1e-3 is a number, as in YAML 1.2 and in Python, and a key
    that stands twice is a mistake, not a way to say the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, value in node.value:
            if keys.count(key.value) > 1 and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=value.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


# What PyYAML lets through on a 13th month, a tag that does not fit its value, or deep nesting.
_CONSTRUCTION_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError),
)


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML; raises InputError with line and column where it isn't."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(error.problem).split())
        raise InputError(f"{where}:{place}: not YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    except _CONSTRUCTION_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: not YAML: a value cannot be read ({reason})") from None


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
        elif node is SearchConfig and parent in SETTINGS:
            node = SETTINGS[parent]
        else:
            node = node.model_fields[parent].annotation
    more = sections() if node is SearchConfig else []
    return [*node.model_fields, *more] if hasattr(node, "model_fields") else []


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
