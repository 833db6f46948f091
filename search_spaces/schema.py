"""The sections of a search space file, checked before anything heavy starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from data import DataConfig, FeaturesConfig
from errors import did_you_mean, shown
from metrics import Metric
from models.config import AugmentationConfig, ModelConfig
from models.solvers import SOLVERS, StepSolver
from partitions import Partition, named
from records import AUTO, BEST, Cell
from search_spaces.distributions import Space
from search_spaces.parsing import parse_space
from search_spaces.schedulers import SETTINGS, SchedulerConfig, parse_sections
from search_spaces.several import check_joined, check_names, check_one, resolved
from search_spaces.values import SEEDS, gpu_share, row_names, seeds_or_auto
from sections import Section

OF_DEFAULT = "_default"  # ends the name of a method that is another's default
MOST = 10**12  # trials or samples: more than anyone needs, and a number that fits everywhere


class SearchConfig(Section):
    """How every cell is searched; beside its own keys, a section for each scheduler's settings."""

    model_config = ConfigDict(extra="allow")

    trials: int = Field(16, ge=1, le=MOST, description="configurations a cell tries")
    samples: int = Field(
        100_000, ge=1, le=MOST, description="the horizon: training samples a full trial sees"
    )
    epochs: int = Field(
        40, ge=1, le=MOST, description="the most times it sees each image, where these are few"
    )
    evaluations: int = Field(
        3, ge=1, le=10_000, description="evenly spaced evaluations, beside those at rungs"
    )
    val_images: int = Field(
        10_000, ge=1, le=MOST, description="about how many validation images judge a trial"
    )
    scheduler: str = Field("asha", description=f"what stops poor trials: {', '.join(SETTINGS)}")
    sampler: Literal["tpe", "random"] = Field("tpe", description="who proposes configurations")
    transfer: int = Field(
        0, ge=0, le=MOST, description="trials of a cell that repeat the best of smaller partitions"
    )
    encoders: int = Field(
        2, ge=1, le=MOST, description="of several, the most whose blocks are trained at a row"
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
            raise ValueError(
                f"{shown(name)}: unknown scheduler; {hint}allowed: {', '.join(SETTINGS)}"
            )
        return name

    @property
    def settings(self) -> SchedulerConfig:
        """The settings of the scheduler that is named."""
        found: SchedulerConfig = getattr(self, self.scheduler, SchedulerConfig())
        return found


class FinalConfig(Section):
    """How winners are measured, and which final weights are tried on validation."""

    seeds: Annotated[int | str, BeforeValidator(seeds_or_auto), WithJsonSchema(SEEDS)] = Field(
        AUTO, description="final fits of each winner; auto: 3 to 8, more where images are few"
    )
    ema: bool = Field(True, description="try the weights averaged over steps")
    wise_ft: tuple[float, ...] = Field(
        (0.5, 0.75),
        description="shares of the way from start to tuned weights to try, between 0 and 1",
    )
    export: bool = Field(True, description="keep the winners' weights")
    keep: Literal["one", "all"] = Field(
        "one", description="which seeds' weights, where blocks are trained; of heads, all are kept"
    )
    default: bool = Field(
        False,
        description="measure defaults too: each method that trains blocks gets a NAME_default",
    )

    @field_validator("wise_ft")
    @classmethod
    def _between(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if wrong := [alpha for alpha in alphas if not 0 < alpha < 1]:
            raise ValueError(f"{wrong[0]:g} is not between 0 and 1, both excluded")
        return alphas


class ResourcesConfig(Section):
    """The resources of one trial; as many trials run at a time as the machines have room for."""

    gpus_per_trial: Annotated[float | str, BeforeValidator(gpu_share)] = Field(
        AUTO,
        description="share of a GPU, if there are any; auto: as little as the largest trial takes, "
        "and as many trials as there are cores, 8 at most",
    )
    cpus_per_trial: float = Field(1.0, gt=0, description="CPU cores")
    deterministic: bool = Field(
        False, description="compute the same each time on the same GPU, more slowly"
    )
    cuda_graph: bool = Field(
        False,
        description="launch a step as one CUDA graph, if features are on the GPU; not in float16",
    )
    report_seconds: float = Field(
        6 * 3600, ge=1, le=1e6, description="seconds without a report after which a trial is ended"
    )


class ReportConfig(Section):
    """The method that the table compares with the probe."""

    gain: str | None = Field(None, description="the method whose gain is shown")


class MethodConfig(Section):
    """A method: a column of the table, with its own space."""

    space: dict[str, Any]
    default: dict[str, Any] = Field({})
    trials: int | None = Field(None, ge=1, le=MOST, description="instead of search.trials")
    samples: int | None = Field(None, ge=1, le=MOST, description="instead of search.samples")
    rows: Annotated[tuple[str, ...], BeforeValidator(row_names)] | None = Field(
        None, description="the only rows of the table it is searched at: [10, 4shot]; null for all"
    )

    @cached_property
    def parsed(self) -> Space:
        """The method's search space."""
        return parse_space(self.space, self.default)

    @model_validator(mode="after")
    def _valid_space(self) -> MethodConfig:
        if not self.space:
            raise ValueError("space: is empty; name at least `blocks`")
        _ = self.parsed
        return self

    def has_row(self, partition: Partition) -> bool:
        """Whether the method is searched at a row of the table."""
        return self.rows is None or named(partition) in self.rows

    @property
    def frozen_encoder(self) -> bool:
        """Whether every trial leaves the encoder as it is."""
        return set(self.parsed.reachable("blocks")) == {"none"}

    @property
    def probes(self) -> bool:
        """Whether every trial is a probe: a head that is trained, on a frozen encoder."""
        solvers = (SOLVERS[name] for name in self.parsed.reachable("solver"))
        return self.frozen_encoder and all(solver.trains for solver in solvers)

    @property
    def takes_steps(self) -> bool:
        """Whether any trial trains in steps; else every head is found at once."""
        names = self.parsed.reachable("solver")
        return any(isinstance(SOLVERS[name], StepSolver) for name in names)

    @property
    def needs_probe(self) -> bool:
        """Whether a trial may start from the best probe head of its partition."""
        return not self.frozen_encoder and "probe" in self.parsed.reachable("head_start")

    @property
    def needs_zero_shot(self) -> bool:
        """Whether a trial may start from the text tower's classifier, or be pulled to it."""
        reachable = self.parsed.reachable
        return "zero_shot" in reachable("head_start") or any(map(_pulls, reachable("anchor")))

    @property
    def without_text(self) -> MethodConfig:
        """The method for an encoder without a text tower: of several anchors, 0 alone is left."""
        anchor = self.space.get("anchor")
        several = anchor.get("bank", anchor.get("choice")) if isinstance(anchor, dict) else None
        if not isinstance(several, list | tuple) or 0 not in several:
            return self
        default = {name: value for name, value in self.default.items() if name != "anchor"}
        own = {"space": {**self.space, "anchor": 0}, "default": default}
        return MethodConfig.model_validate(self.model_dump() | own)

    @property
    def views(self) -> int:
        """The largest number of augmented copies of an image that a trial may use."""
        return int(max(self.parsed.reachable("views")))


Logger = Literal["tensorboard", "mlflow", "wandb"]


def _pulls(anchor: Any) -> bool:
    return any(anchor) if isinstance(anchor, list | tuple) else bool(anchor)


class Experiment(Section):
    """One run: data, encoder, methods, and how to search and to measure them."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="of the run and its folder: letters, digits, '.', '_' and '-'",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of all random draws except the splits")
    metric: Metric = Field(
        "accuracy",
        description="what is compared and reported; log_loss as likelihood, exp(-log loss)",
    )
    data: DataConfig
    model: ModelConfig = ModelConfig()
    models: dict[str, ModelConfig] = Field(
        {}, description="several encoders by names of your own, instead of model"
    )
    search: SearchConfig = SearchConfig()
    final: FinalConfig = FinalConfig()
    resources: ResourcesConfig = ResourcesConfig()
    features: FeaturesConfig = FeaturesConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    report: ReportConfig = ReportConfig()
    loggers: tuple[Logger, ...] = Field(
        (), description="where every trial is logged as well: tensorboard, mlflow, wandb"
    )
    methods: dict[str, MethodConfig] = Field(min_length=1)

    @field_validator("models")
    @classmethod
    def _encoder_names(cls, models: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        check_names(models)
        check_joined(models)
        return models

    @field_validator("methods")
    @classmethod
    def _method_names(cls, methods: dict[str, MethodConfig]) -> dict[str, MethodConfig]:
        for name in methods:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"{shown(name)}: letters, digits, _ and - only, 64 at most")
            if name == BEST:
                raise ValueError(f"{BEST}: is the report's own column; allowed: another name")
        return methods

    @model_validator(mode="after")
    def _with_defaults(self) -> Experiment:
        """Add each default as a method of its own, so that what its search gained is measured."""
        if self.final.default:
            for name, method in list(self.methods.items()):
                if method.parsed.size > 1 and not method.frozen_encoder:
                    default = MethodConfig(
                        space=method.parsed.first(), samples=method.samples, rows=method.rows
                    )
                    self.methods.setdefault(f"{name}{OF_DEFAULT}", default)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        # The journal and other files name partitions by six significant digits.
        if long := [p for p in self.data.partitions if float(f"{p:g}") != p]:
            raise ValueError(f"data.partitions: {long[0]} has more than six significant digits")
        if self.report.gain is not None and self.report.gain not in self.methods:
            missing, allowed = shown(self.report.gain), ", ".join(self.methods)
            raise ValueError(f"report.gain: no method {missing}; allowed: {allowed}")
        if self.probe is None and (needy := [n for n, m in self.methods.items() if m.needs_probe]):
            raise ValueError(
                f"methods.{needy[0]}: starts from a probe's head, but no method has blocks: none; "
                "allowed: add one, or head_start: zeros or zero_shot"
            )
        check_one(self.model, [n for n, m in self.methods.items() if not m.frozen_encoder])
        if self.models and "model" in self.model_fields_set:
            raise ValueError("models: beside model; allowed: one of the two")
        if self.models and not any(method.frozen_encoder for method in self.methods.values()):
            raise ValueError("models: encoders are compared by a method with blocks: none; add one")
        amounts = {named(amount) for amount in self.data.amounts}
        for name, method in self.methods.items():
            if wrong := set(method.rows or ()) - amounts:
                allowed = ", ".join(sorted(amounts))
                raise ValueError(f"methods.{name}.rows: no row {min(wrong)}; allowed: {allowed}")
            if method.needs_probe and (lacking := self._rows(name) - self._rows(str(self.probe))):
                raise ValueError(
                    f"methods.{name}.rows: starts from the head of {self.probe}, which has no row "
                    f"{min(lacking)}"
                )
        return self

    def _rows(self, method: str) -> set[str]:
        """Name the rows at which a method is searched."""
        has_row = self.methods[method].has_row
        return {named(amount) for amount in self.data.amounts if has_row(amount)}

    def of_encoder(self, name: str, rows: Mapping[str, Sequence[str]]) -> Experiment:
        """Return the experiment of one of several encoders; it is named after it.

        `rows` are those at which each method that trains blocks is searched; without any, or where
        the method has none of them, it is left out. Joined encoders have none of those methods.
        """
        tree, model = self.resolved(), resolved(self.models, name)
        rows = {} if model.concat else rows
        methods = {}
        if not model.reads_text:
            fitting = {key: method.without_text for key, method in self.methods.items()}
            usable = {key: m for key, m in fitting.items() if not m.needs_zero_shot}
            tree["methods"] = {key: m.model_dump(mode="json") for key, m in usable.items()}
        for method, config in tree["methods"].items():
            if not self.methods[method].frozen_encoder:
                own = self.methods[method].rows
                config["rows"] = [r for r in rows.get(method, ()) if own is None or r in own]
            if config["rows"] != []:
                methods[method] = config
        gain = tree["report"]["gain"]
        tree |= {"name": name, "model": model.model_dump(mode="json")}
        tree |= {"models": {}, "methods": methods}
        tree["report"]["gain"] = gain if gain in methods else None
        return Experiment.model_validate(tree)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the table, row by row."""
        return [
            Cell(partition, name)
            for partition in self.data.amounts
            for name, method in self.methods.items()
            if method.has_row(partition)
        ]

    @property
    def probe(self) -> str | None:
        """The first method that is a probe: the others' heads start from its winners."""
        return next((name for name, m in self.methods.items() if m.probes), None)

    @property
    def needs_zero_shot(self) -> bool:
        """Whether any method uses the text tower."""
        return any(method.needs_zero_shot for method in self.methods.values())

    @property
    def views(self) -> int:
        """The number of augmented copies of each training image to cache."""
        return max(method.views for method in self.methods.values())

    def trials(self, method: str) -> int:
        """Return the trials of each of the method's cells, at most one per configuration."""
        config = self.methods[method]
        return int(min(config.trials or self.search.trials, config.parsed.size))

    def horizon(self, method: str, images: int) -> int:
        """Return the training samples that a full trial sees if a partition has `images` images."""
        return min(self.methods[method].samples or self.search.samples, self.search.epochs * images)

    @model_serializer(mode="wrap")
    def _one_encoder_or_several(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = plain(self)
        if self.models:
            del tree["model"]
        return tree

    def resolved(self) -> dict[str, Any]:
        """Return plain values, as `experiment.yaml` holds them."""
        return self.model_dump(mode="json")
