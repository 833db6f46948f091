"""The `data` section of an experiment: its images, how they are split and partitioned."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data.sources import SOURCES
from data.sources.base import SPLIT_NAMES
from errors import InputError, shown
from files import expanded, is_url
from partitions import Partition, Shots
from sections import Section

CLIP_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven of their eighty ImageNet prompts that CLIP's authors recommend (openai/CLIP, notebooks/
Prompt_Engineering_for_ImageNet.ipynb; open_clip's SIMPLE_IMAGENET_TEMPLATES)."""


class ColumnNames(Section):
    """The columns of a `csv:` or `hf:` source; `split` and `group` may be absent from the file.

    Attributes:
        path: the column with images or their paths.
        label: the column with classes.
        split: the column that says train, val or test.
        group: the column with groups: images that stay together.
    """

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


class SourceConfig(Section):
    """Where images come from.

    Attributes:
        source: `digits`, `folder:PATH`, `csv:PATH` (.csv, .tsv, .parquet), `torchvision:NAME`,
            `hf:NAME_OR_PATH` or `webdataset:PATTERN`. Relative paths start at the current
            directory.
        root: for `csv:`, the folder that holds all images, from which relative paths start
            (default: the CSV's own); for `torchvision:`, the download folder.
        columns: column names of a `csv:` or `hf:` source.
    """

    source: str
    root: Path | None = None
    columns: ColumnNames = ColumnNames()

    @property
    def kind(self) -> str:
        """The source's kind: the word before the colon."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """The source's path or data set name: the text after the colon."""
        return self.source.partition(":")[2]

    @property
    def path(self) -> Path:
        """The place as an absolute path; raises InputError if it is a URL or an unknown home."""
        if is_url(self.place):
            raise InputError(f"source: {self.source} is a URL; download it, and name the path")
        return expanded(self.place, "source").absolute()

    @property
    def anchored(self) -> Self:
        """The same places by absolute paths, which mean the same from any folder."""
        found: dict[str, object] = {}
        if SOURCES[self.kind].place == "PATH":
            found["source"] = f"{self.kind}:{self.path}"
        if self.root is not None:
            found["root"] = expanded(self.root, "data.root").absolute()
        return self.model_copy(update=found)

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        kind, _, place = source.partition(":")
        known = SOURCES.get(kind)
        if known is None or not (place.strip() if known.place else source == kind):
            *others, last = (":".join(filter(None, (k, s.place))) for k, s in SOURCES.items())
            raise ValueError(
                f"unknown source {shown(source)}; allowed: {', '.join(others)} or {last}; "
                "--import adds one of your own"
            )
        return source

    @model_validator(mode="after")
    def _root_has_a_use(self) -> Self:
        if self.root is not None and not SOURCES[self.kind].takes_root:
            takers = " and ".join(f"{name}:" for name, kind in SOURCES.items() if kind.takes_root)
            raise ValueError(f"root is for {takers} sources, not {self.source!r}")
        return self


class DataConfig(SourceConfig):
    """Where the images come from and how they are divided.

    Attributes:
        val_fraction: share of the source's training images to draw for validation, if the source
            has no validation split.
        test_fraction: the same for the test split.
        split_seed: seed of those draws.
        partitions: percentages of the training split, increasing, each in (0, 100]; a partition
            consists of whole groups if the source names groups. May be empty beside `shots`.
        shots: numbers of images of each class, increasing: further rows of the table, above those
            of `partitions`. Of groups, if the source names groups; a class with fewer gives all.
        validation: `full` chooses by the whole validation split at every partition; `matched`
            draws the partition's share of it, as a user with that little data would have.
        max_unreadable: share of the images used of a split that may be unreadable, in [0, 1].
        templates: prompts of the zero-shot classifier; a class's words replace `{}`.
        class_names: YAML file of class names and their words, or lists of sentences that describe
            them and are prompts as they stand; other names are cleaned.
        extra_tests: further labelled sets by name, scored once with the winners.
    """

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    partitions: tuple[int | float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    shots: tuple[Annotated[int, Field(ge=1, le=10**6)], ...] = ()
    validation: Literal["full", "matched"] = "full"
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = 0.01
    templates: tuple[str, ...] = CLIP_TEMPLATES
    class_names: Path | None = None
    extra_tests: dict[str, SourceConfig] = Field({})

    @field_validator("partitions")
    @classmethod
    def _increasing_percentages(cls, partitions: tuple[float, ...]) -> tuple[float, ...]:
        rule = "partitions must be one or more increasing percentages above 0 and up to 100"
        for percent in partitions:
            if not 0 < percent <= 100:
                raise ValueError(f"{rule}, not {percent:g}")
        _check_increasing(partitions, rule)
        return partitions

    @field_validator("shots")
    @classmethod
    def _increasing_shots(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        _check_increasing(shots, "shots must be increasing numbers of images of each class")
        return shots

    @property
    def anchored(self) -> Self:
        """The same places by absolute paths, which mean the same from any folder."""
        found: dict[str, object] = {
            "extra_tests": {name: test.anchored for name, test in self.extra_tests.items()}
        }
        if self.class_names is not None:
            found["class_names"] = expanded(self.class_names, "data.class_names").absolute()
        return super().anchored.model_copy(update=found)

    @property
    def amounts(self) -> tuple[Partition, ...]:
        """The rows of the table: the shots, then the percentages."""
        return (*map(Shots, self.shots), *self.partitions)

    @field_validator("templates")
    @classmethod
    def _one_place_each(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        rule = "templates must be one or more prompts with one {} each and no other braces"
        if not templates:
            raise ValueError(f"{rule}; none given")
        for template in templates:
            if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
                raise ValueError(f"{rule}, not {shown(template)}")
        return templates

    @field_validator("extra_tests")
    @classmethod
    def _own_names(cls, extra_tests: dict[str, SourceConfig]) -> dict[str, SourceConfig]:
        for name in extra_tests:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"{shown(name)}: letters, digits, _ and - only")
            if name.lower() in SPLIT_NAMES.values():
                raise ValueError(f"{name!r} names a split; an extra test needs a name of its own")
        return extra_tests

    @model_validator(mode="after")
    def _some_to_train(self) -> Self:
        if not self.amounts:
            raise ValueError("partitions and shots are both empty; allowed: one or more in either")
        drawn = self.val_fraction + self.test_fraction
        if drawn >= 1:
            raise ValueError(f"val_fraction + test_fraction must stay below 1, not {drawn:g}")
        return self


def _check_increasing(numbers: tuple[float, ...], rule: str) -> None:
    for before, after in pairwise(numbers):
        if before >= after:
            raise ValueError(f"{rule}; {after:g} follows {before:g}")


class FeaturesConfig(Section):
    """Where features are cached, and how they are computed."""

    cache: Path | None = Field(None, description="folder; the user's cache folder if null")
    local: Path | None = Field(
        None,
        description="folder on a fast disk of each machine's own, to copy there what is larger "
        "than memory",
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="of the cached features; float16 takes half the disk and memory"
    )
    batch_size: int = Field(64, ge=1, le=65536, description="images in one pass of the encoder")
