"""A tiny CLIP of open_clip, its folder, and what loading refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
from safetensors.torch import save_file

from errors import InputError
from models.config import LOCAL_DIR, ModelConfig
from models.loading import load_pretrained

NAME = "clip-search-tiny"
CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {
        **{"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    },
    "text_cfg": {"context_length": 4, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
}


def folder_of(path: Path, model: open_clip.CLIP, **changes: Any) -> str:
    """A `local-dir:` of `model`; its name in a ModelConfig."""
    path.mkdir()
    model_cfg = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], **changes.pop("vision", {})}}
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", **changes}
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return f"{LOCAL_DIR}{path}"


def refusal(name: str, pretrained: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        load_pretrained(ModelConfig(name=name, pretrained=pretrained))
    message = str(error.value)
    assert message.startswith("model")
    assert "\n" not in message
    return message
