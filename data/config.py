"""The `data` section of an experiment: which images, how they are split and partitioned."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data.sources.base import SPLIT_NAMES

SOURCES = "digits, folder:PATH, csv:PATH or torchvision:NAME"

CLIP_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven that CLIP's authors chose of their eighty for ImageNet (openai/CLIP, notebooks/
Prompt_Engineering_for_ImageNet.ipynb; open_clip's SIMPLE_IMAGENET_TEMPLATES)."""


class ColumnNames(BaseModel):
    """The columns of a `csv:` source. `split` and `group` may be absent from the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = "path"
    label: str = "label"
    split: str = "split"
    group: str = "group"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [self.path, self.label, self.split, self.group]
        if len(set(names)) < len(names):
            raise ValueError(f"columns must be four different names, not {', '.join(names)}")
        return self


class SourceConfig(BaseModel):
    """Where images come from.

    Attributes:
        source: `digits`, `folder:PATH`, `csv:PATH` or `torchvision:NAME`. Relative paths start at
            the current directory.
        root: for `csv:`, the folder its relative image paths start at, and all of them lie below
            (default: the CSV's own); for `torchvision:`, the download folder. Others take none.
        columns: column names of a `csv:` source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    root: Path | None = None
    columns: ColumnNames = ColumnNames()

    @property
    def kind(self) -> str:
        """The source's kind: what stands before the colon."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """The source's path or data set name: what stands after the colon."""
        return self.source.partition(":")[2]

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, place = source.partition(":")
        if source != "digits" and not (kind in ("folder", "csv", "torchvision") and place.strip()):
            raise ValueError(f"unknown source {source!r}; allowed: {SOURCES}")
        return source

    @model_validator(mode="after")
    def _root_has_a_use(self) -> Self:
        if self.root is not None and self.kind not in ("csv", "torchvision"):
            raise ValueError(f"root is for csv: and torchvision: sources, not {self.source!r}")
        return self


class DataConfig(SourceConfig):
    """Where the images come from and how they are divided.

    Attributes:
        val_fraction, test_fraction: shares of the images that the source leaves undivided (its
            `train` images) drawn for a split that the source lacks.
        split_seed: seed of those draws.
        partitions: percentages of the training split, increasing, each in (0, 100]; in whole
            groups where the source names some.
        validation: `full` chooses by the whole validation split at every partition; `matched`
            draws validation at the partition's own share, as a user with so little data has it.
        max_unreadable: share of a split's images that may be unreadable, in [0, 1].
        templates: prompts of the zero-shot classifier; a class's words take the place of `{}`.
        class_names: YAML file of class names and their words; the others' names are cleaned.
        extra_tests: further labelled sets by name, scored once with the winners.
    """

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0
    partitions: tuple[int | float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    validation: Literal["full", "matched"] = "full"
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = 0.01
    templates: tuple[str, ...] = CLIP_TEMPLATES
    class_names: Path | None = None
    extra_tests: dict[str, SourceConfig] = {}

    @field_validator("partitions")
    @classmethod
    def _increasing_percentages(cls, partitions: tuple[float, ...]) -> tuple[float, ...]:
        rule = "partitions must be one or more increasing percentages above 0 and up to 100"
        if not partitions:
            raise ValueError(f"{rule}; none given")
        for percent in partitions:
            if not 0 < percent <= 100:
                raise ValueError(f"{rule}, not {percent:g}")
        for before, after in pairwise(partitions):
            if before >= after:
                raise ValueError(f"{rule}; {after:g} follows {before:g}")
        return partitions

    @field_validator("templates")
    @classmethod
    def _one_place_each(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        rule = "templates must be one or more prompts with one {} each and no other braces"
        if not templates:
            raise ValueError(f"{rule}; none given")
        for template in templates:
            if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
                raise ValueError(f"{rule}, not {template!r}")
        return templates

    @field_validator("extra_tests")
    @classmethod
    def _own_names(cls, extra_tests: dict[str, SourceConfig]) -> dict[str, SourceConfig]:
        for name in extra_tests:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"{name!r}: letters, digits, _ and - only")
            if name.lower() in SPLIT_NAMES:
                raise ValueError(f"{name!r} names a split; an extra test needs a name of its own")
        return extra_tests

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> Self:
        drawn = self.val_fraction + self.test_fraction
        if drawn >= 1:
            raise ValueError(f"val_fraction + test_fraction must stay below 1, not {drawn:g}")
        return self
