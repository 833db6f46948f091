"""Models of the hub, from a cache that is prepared by hand: nothing is downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import timm
import torch

from models.config import ModelConfig
from models.loading import load_pretrained
from tests.models.test_timm_models import model_of
from tests.models.tiny_clip import CONFIG, folder_of, refusal


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(cache: Path, repository: str) -> Path:
    """Make a snapshot in the cache; return its folder."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0123abcd" * 5)
    folder = place / "snapshots" / ("0123abcd" * 5)
    folder.mkdir(parents=True)
    return folder


def test_an_open_clip_model_of_the_hub(cache: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.model.CLIP(CONFIG["embed_dim"], CONFIG["vision_cfg"], CONFIG["text_cfg"])
    name = folder_of(tmp_path / "folder", model)
    shutil.copytree(tmp_path / "folder", cached(cache, "me/tiny"), dirs_exist_ok=True)
    found = load_pretrained(ModelConfig(name="hf-hub:me/tiny"))
    assert found.fingerprint == load_pretrained(ModelConfig(name=name)).fingerprint


def test_what_is_not_there_is_told_in_a_line(cache: Path) -> None:
    message = refusal("hf-hub:me/none")
    assert "me/none cannot be downloaded (" in message
    assert "--model local-dir:FOLDER" in message
    for name in ("hf-hub:", "hf-hub:none", "hf-hub:../..//x", "hf-hub:a/b/c"):
        assert "allowed: hf-hub:ORG/NAME" in refusal(name)


def test_a_model_of_another_library_is_refused(cache: Path) -> None:
    (cached(cache, "me/other") / "config.json").write_text("{}")
    assert "has no open_clip_config.json; allowed: an open_clip" in refusal("hf-hub:me/other")


def test_a_broken_configuration_of_the_hub_is_refused(cache: Path) -> None:
    (cached(cache, "me/broken") / "open_clip_config.json").write_text('{"model_cfg": {}}')
    assert "cannot load hf-hub:me/broken: open_clip_config.json: vision_cfg" in refusal(
        "hf-hub:me/broken"
    )


def test_a_tag_of_timms_comes_from_the_hub(cache: Path, tmp_path: Path) -> None:
    folder = cached(cache, "timm/test_vit.r160_in1k")
    model_of(folder / "model.safetensors")
    found = load_pretrained(ModelConfig(name="timm:test_vit.r160_in1k"))
    default = load_pretrained(ModelConfig(name="timm:test_vit"))
    assert found.fingerprint == default.fingerprint
    assert timm.get_pretrained_cfg("test_vit").tag == "r160_in1k"
