"""What other rooms import from `models`, and that the settings of a search need no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import models


def test_every_name_of_the_face_is_there() -> None:
    names = dir(models)
    assert {"Fit", "Recipe", "ModelConfig", "select", "SOLVERS", "TOWERS"} <= set(names)
    for name in names:
        assert getattr(models, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = models.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statement",
    [
        "from models import ModelConfig, Recipe, SOLVERS",
        "import models.config, models.recipe, models.solvers",
        "from models import Recipe; Recipe(solver='lbfgs', weight_decay=[0, 1]).bank",
        "import search_spaces.distributions",
    ],
)
def test_settings_are_read_without_torch(statement: str) -> None:
    code = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
