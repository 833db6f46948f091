"""An experiment in a file, and what is said where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from search_spaces import load_experiment
from tests.tune.search.simulated import FIXED, FROZEN, LLRD

SMALL = {
    "data": {"source": "digits"},
    "methods": {"frozen": FROZEN, "llrd": LLRD, "fixed": FIXED},
}


def refused(path: Path, *sets: str, **options: Any) -> str:
    """The one line that says why."""
    with pytest.raises(InputError) as error:
        load_experiment(path, sets, **options)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)
