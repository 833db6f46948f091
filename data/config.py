"""The `data` section of an experiment: which images, how they are split and partitioned."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SOURCES = "digits, folder:PATH, csv:PATH or torchvision:NAME"


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


class DataConfig(BaseModel):
    """Where the images come from and how they are divided.

    Attributes:
        source: `digits`, `folder:PATH`, `csv:PATH` or `torchvision:NAME`. Relative paths start at
            the current directory.
        root: for `csv:`, the folder its relative image paths start at (default: the CSV's own);
            for `torchvision:`, the download folder. Other sources take none.
        val_fraction, test_fraction: shares of the images that the source leaves undivided (its
            `train` images) drawn for a split that the source lacks.
        split_seed: seed of those draws.
        partitions: percentages of the training split, increasing, each in (0, 100].
        max_unreadable: share of a split's images that may be unreadable, in [0, 1].
        columns: column names of a `csv:` source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    root: Path | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0
    partitions: tuple[int | float, ...] = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    max_unreadable: Annotated[float, Field(ge=0, le=1)] = 0.01
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        drawn = self.val_fraction + self.test_fraction
        if drawn >= 1:
            raise ValueError(f"val_fraction + test_fraction must stay below 1, not {drawn:g}")
        if self.root is not None and self.kind not in ("csv", "torchvision"):
            raise ValueError(f"root is for csv: and torchvision: sources, not {self.source!r}")
        return self
