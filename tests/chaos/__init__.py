"""Faults on purpose: what is promised of each, and how often it is tried.

`make chaos` sets CHAOS=1, for the long version; docs/chaos.md has its last result.
"""

from __future__ import annotations

import os

LONG = bool(os.environ.get("CHAOS"))


def times(few: int, many: int) -> int:
    """Repeats: `few` in every run of the tests, `many` in `make chaos`."""
    return many if LONG else few
