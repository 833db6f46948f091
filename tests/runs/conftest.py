"""What tests of the feature stage share; other tests have an encoder and photos of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import Split
from models.config import ModelConfig
from models.loading import Pretrained, load_pretrained


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(ModelConfig())


@pytest.fixture
def photos(tmp_path: Path) -> Split:
    """Twelve photos: the last two of the same content, the third broken, the fourth missing."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(path)
    paths[11].write_bytes(paths[10].read_bytes())
    paths[2].write_bytes(paths[2].read_bytes()[:40])
    paths[3].unlink()
    return Split(tuple(map(str, paths)), np.arange(12) % 2)
