from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.search_spaces.written import SMALL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small experiment in YAML."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path
