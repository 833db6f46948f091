"""Fixtures of the room's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import open_clip
import open_clip.factory
import pytest
import torch

from models.encoder import Encoder
from models.towers import split_tower
from tests.models.tiny_clip import CONFIG, NAME
from tests.models.tiny_towers import native


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from threads, and lose a lot on a machine shared with others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def encoder() -> Encoder:
    """A tiny native tower's; fits copy from it and leave it alone."""
    return split_tower(native())


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> open_clip.CLIP:
    """A model under a name of its own, and its checkpoints in tmp_path."""
    monkeypatch.setattr(
        open_clip.factory, "_MODEL_CONFIG_PATHS", open_clip.factory._MODEL_CONFIG_PATHS[:]
    )
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    (tmp_path / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / f"{NAME}.json")
    torch.manual_seed(0)
    model = open_clip.create_model(NAME)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return model
