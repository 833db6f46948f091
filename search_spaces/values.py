"""Checks of single values of a search space that their types do not make."""

from __future__ import annotations

from typing import Any

from errors import shown
from partitions import named, parsed
from records import AUTO

MOST_SEEDS = 100
SEEDS = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_SEEDS}, {"enum": [AUTO]}]}
"""What `seeds_or_auto` takes, for the JSON schema."""


def seeds_or_auto(value: Any) -> Any:
    """Check a number of final seeds, or `auto`."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if value == AUTO or (number and 1 <= value <= MOST_SEEDS):
        return value
    raise ValueError(f"{shown(value)} is no number of seeds; allowed: 1 to {MOST_SEEDS}, or {AUTO}")


def gpu_share(value: Any) -> Any:
    """Check a share of a GPU, or `auto`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == AUTO or (number and 0 < value <= 1):
        return value if value == AUTO else float(value)
    raise ValueError(f"{shown(value)} is no share of a GPU; allowed: above 0 to 1, or {AUTO}")


def row_names(rows: Any) -> Any:
    """Name rows of the table, which are percentages or shots, as files do."""
    if not isinstance(rows, list | tuple):
        return rows
    if not rows:
        raise ValueError("it is empty; null is every row, and `METHOD: null` leaves a method out")
    try:
        return tuple(named(parsed(row)) for row in rows)
    except (TypeError, ValueError):
        raise ValueError(f"{shown(rows)}: a row is a percentage, or so many shots: 4shot") from None
