"""A mistake in a search space costs no import that takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"ray", "torch", "torchvision", "open_clip", "timm", "pandas", "sklearn"}
LOAD = f"""
import sys
from pathlib import Path
from search_spaces import load_experiment
load_experiment(Path("search_spaces/digits.yaml"))
print(*sorted({HEAVY} & {{*sys.modules}}))
"""


def test_reading_an_experiment_loads_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
