"""The schedulers that `search.scheduler` may name, and the settings of each.

The schedulers themselves are in `tune/search/schedulers/`; a search space is checked without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, create_model

from sections import Section


class SchedulerConfig(Section):
    """The settings of a scheduler that has none; others extend it."""


class AshaConfig(SchedulerConfig):
    """When successive halving stops trials."""

    rungs: int = Field(3, ge=1, le=10, description="rungs, the last one being the horizon")
    reduction_factor: int = Field(
        3, ge=2, le=1000, description="one trial in this many goes on from a rung"
    )
    epochs: float = Field(
        2,
        ge=0,
        description="times a trial sees its images before a rung but the last judges it",
    )


class HyperbandConfig(AshaConfig):
    """The settings of each of Hyperband's brackets."""


SETTINGS: dict[str, type[SchedulerConfig]] = {
    "asha": AshaConfig,
    "hyperband": HyperbandConfig,
    "none": SchedulerConfig,
}
"""The settings of every scheduler by its name, which is also its section in `search`."""


def sections() -> list[str]:
    """The names of the schedulers that have settings."""
    return [name for name, config in SETTINGS.items() if config.model_fields]


def parse_sections(given: Mapping[str, Any]) -> dict[str, SchedulerConfig]:
    """Read the schedulers' sections of `search`; those that are not given have their defaults."""
    fields: dict[str, Any] = {name: (SETTINGS[name], SETTINGS[name]()) for name in sections()}
    model = create_model("Sections", __config__=ConfigDict(extra="forbid"), **fields)
    return dict(model.model_validate(given))
