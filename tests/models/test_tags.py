"""Weights from a file are run as their tags say, or the reader is told what was assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.pretrained
import pytest
from PIL import Image

from models.config import ModelConfig
from models.loading import Pretrained, load_pretrained
from models.tags import PREPROCESSING, options_of_file
from tests.models.tiny_clip import NAME, folder_of

TAGGED = [n for n in open_clip.list_models() if open_clip.list_pretrained_tags_by_model(n)]
OPENAI = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
SIGLIP = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
LAION = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")


def configs(name: str) -> list[dict[str, Any]]:
    tags = open_clip.list_pretrained_tags_by_model(name)
    return [open_clip.get_pretrained_cfg(name, tag) for tag in tags]


@pytest.mark.parametrize("name", TAGGED)
def test_what_all_tags_agree_on_holds_for_a_file(name: str) -> None:
    """For every model of open_clip: else a line says what was assumed."""
    options, assumed = options_of_file(name)
    told = " ".join(assumed)
    for key in PREPROCESSING:
        values = {str(config[key]) for config in configs(name)}
        if f"image_{key}" in options:
            assert values == {str(options[f"image_{key}"])}
        else:
            assert "preprocessing" in told
    built = open_clip.get_model_config(name).get("quick_gelu", False)
    quick = options.get("force_quick_gelu", False) or built
    if not built and {config.get("quick_gelu", False) for config in configs(name)} != {quick}:
        assert f"model.name: {name}-quickgelu" in told
        assert f"{name}-quickgelu" in open_clip.list_models()


def test_most_names_leave_nothing_open() -> None:
    """SigLIP, MobileCLIP and PE have one preprocessing, which is not CLIP's own."""
    for name in ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "MobileCLIP-B", "PE-Core-B-16"):
        options, assumed = options_of_file(name)
        assert assumed == []
        assert options["image_mean"] != OPENAI["mean"]
    assert options_of_file("ViT-B-32-quickgelu")[1] == []
    assert {n for n in TAGGED if "GELU" in " ".join(options_of_file(n)[1])} == {
        *("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"),
        *("ViT-L-14-336", "ViT-H-14-378", "ViT-H-14-worldwide"),
        *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),  # refused anyway
    }


def from_file(
    tags: dict[str, dict[str, Any]], path: Path, monkeypatch: pytest.MonkeyPatch
) -> Pretrained:
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, tags)
    return load_pretrained(ModelConfig(name=NAME, pretrained=str(path / "weights.pt")))


def activations(found: Pretrained) -> set[str]:
    return {type(m).__name__ for m in found.encoder.modules() if "GELU" in type(m).__name__}


def test_a_file_of_siglip_is_preprocessed_as_siglip(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = from_file({"webli": SIGLIP}, tmp_path, monkeypatch)
    grey = Image.fromarray(np.full((16, 32, 3), 128, np.uint8))
    assert found.preprocess(grey).unique().tolist() == pytest.approx([0.00392], abs=1e-4)
    marked = np.zeros((16, 32, 3), np.uint8)
    marked[:, :4] = 255  # what a crop of the middle would lose
    assert found.preprocess(Image.fromarray(marked)).max() > 0.5
    assert found.assumed == ()


def test_mixed_tags_are_told(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = from_file({"openai": OPENAI, "laion": LAION}, tmp_path, monkeypatch)
    assert activations(found) == {"GELU"}
    (line,) = found.assumed
    assert "gets GELU; if they come from openai" in line
    found = from_file({"laion": LAION, "webli": SIGLIP}, tmp_path, monkeypatch)
    (line,) = found.assumed
    assert "gets CLIP's own preprocessing; if they come from webli" in line
    assert "preprocess_cfg" in line


def test_a_file_gets_the_activation_of_all_tags(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = from_file({"openai": OPENAI}, tmp_path, monkeypatch)
    assert activations(found) == {"LeanQuickGELU"}
    assert "as all its tags (openai)" in found.assumed[0]


def test_a_folder_that_names_no_preprocessing_is_told(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    told = load_pretrained(ModelConfig(name=folder_of(tmp_path / "a", tiny)))
    assert told.assumed == ()
    silent = ModelConfig(name=folder_of(tmp_path / "b", tiny, mean=None))
    assert "CLIP's own are assumed" in load_pretrained(silent).assumed[0]


def test_a_model_without_tags_is_told_to_get_clips_preprocessing() -> None:
    options, (line,) = options_of_file("ViT-S-16")
    assert options == {}
    assert line.startswith("ViT-S-16 with weights from a file gets CLIP's own preprocessing, as")
