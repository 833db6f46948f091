"""The settings of a search need no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "statement",
    [
        "import models.config, models.recipe, models.solvers",
        "from models.recipe import Recipe; Recipe(solver='lbfgs', weight_decay=[0, 1]).bank",
        "import search_spaces.distributions",
    ],
)
def test_settings_are_read_without_torch(statement: str) -> None:
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
