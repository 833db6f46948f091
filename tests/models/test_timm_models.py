"""Towers by timm's names compute what timm's own models do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from errors import InputError
from models.config import ModelConfig
from models.encoder import embedding
from models.loading import load_pretrained, load_whole
from models.towers import split_tower
from models.zero_shot import Prompts
from tests.models.test_loading import Intruder
from tests.models.tiny_clip import refusal
from tests.models.tiny_towers import stirred

FAMILIES = [
    *("test_vit", "test_vit3", "vit_tiny_patch16_224", "vit_small_patch16_dinov3"),
    *("eva02_tiny_patch14_224", "test_vit_relpos", "test_convnext", "test_convnext2"),
    *("swin_tiny_patch4_window7_224", "fastvit_t8", "test_resnet", "seresnext26d_32x4d"),
]
"""Of every family; the ViTs pool their class token, all tokens, and by attention."""


def model_of(path: Path, name: str = "test_vit", **options: Any) -> nn.Module:
    """Write the weights of a model of timm's, random everywhere; return the model."""
    model = stirred(timm.create_model(name, **options)).eval()
    save_file({k: w.contiguous() for k, w in model.state_dict().items()}, path)
    return model


def config_of(path: Path, name: str = "test_vit", size: int | None = None) -> ModelConfig:
    return ModelConfig(name=f"timm:{name}", pretrained=str(path), image_size=size)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_tower_is_timms_own(name: str, tmp_path: Path) -> None:
    model = model_of(tmp_path / "w.safetensors", name).double()
    _, whole = load_whole(config_of(tmp_path / "w.safetensors", name))
    torch.set_default_dtype(torch.float64)
    try:
        encoder = split_tower(whole.visual.double())
    finally:
        torch.set_default_dtype(torch.float32)
    assert encoder.shapes["pixels"] == model.pretrained_cfg["input_size"]
    pixels = torch.randn(2, *encoder.shapes["pixels"], dtype=torch.float64)
    expected = model.forward_head(model.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(encoder(pixels), embedding(expected), rtol=1e-9, atol=1e-9)


def test_photos_become_timms_pixels(tmp_path: Path) -> None:
    model = model_of(tmp_path / "w.safetensors")
    found = load_pretrained(config_of(tmp_path / "w.safetensors"))
    data = timm.data.resolve_model_data_config(model)
    assert data["crop_pct"] < 1  # else nothing is cropped
    values = np.random.default_rng(0).integers(0, 256, (200, 310, 3), dtype=np.uint8)
    expected = timm.data.create_transform(**data)(Image.fromarray(values))
    assert torch.equal(found.preprocess(Image.fromarray(values)), expected)


def test_the_fingerprint_covers_weights_and_preprocessing(tmp_path: Path) -> None:
    model_of(tmp_path / "w.safetensors", "vit_tiny_patch16_224")
    names = [f"vit_tiny_patch16_224.{tag}" for tag in ("augreg_in21k", "augreg_in21k_ft_in1k")]
    same = {load_pretrained(config_of(tmp_path / "w.safetensors", n)).fingerprint for n in names}
    large = load_pretrained(config_of(tmp_path / "w.safetensors", names[0], 256)).fingerprint
    model = timm.create_model("vit_tiny_patch16_224")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    other = load_pretrained(config_of(tmp_path / "w.pth", names[0])).fingerprint
    assert len(same) == 1
    assert len(same | {large, other}) == 3


@torch.no_grad()
def test_images_of_another_size(tmp_path: Path) -> None:
    for name in ("test_vit", "test_convnext", "test_vit_relpos"):
        model_of(tmp_path / "w.safetensors", name)
        found = load_pretrained(config_of(tmp_path / "w.safetensors", name, 192))
        assert found.encoder.shapes["pixels"] == (3, 192, 192)
        assert found.preprocess(Image.new("RGB", (300, 200))).shape == (3, 192, 192)


@torch.no_grad()
def test_a_classifier_of_any_width_is_left_out(tmp_path: Path) -> None:
    found = {}
    for classes in (0, 7, 1000):
        model = model_of(tmp_path / "w.safetensors", num_classes=classes)
        found[classes] = load_pretrained(config_of(tmp_path / "w.safetensors")).encoder
        assert set(model.state_dict())
    first, *others = (e.groups[0].state_dict() for e in found.values())
    assert all(torch.equal(first[key], other[key]) for other in others for key in first)


def folder_of(path: Path, **changes: Any) -> str:
    """A folder as timm writes it."""
    path.mkdir()
    model = model_of(path / "model.safetensors", img_size=96)
    config = {"architecture": "test_vit", "model_args": {"img_size": 96}, "num_classes": 1000}
    kept = ("input_size", "mean", "std", "interpolation", "crop_pct", "classifier", "num_classes")
    data = {key: model.pretrained_cfg[key] for key in kept} | {"input_size": [3, 96, 96]}
    (path / "config.json").write_text(json.dumps(config | {"pretrained_cfg": data} | changes))
    return f"timm:local-dir:{path}"


@torch.no_grad()
def test_a_folder_of_timms(tmp_path: Path) -> None:
    name = folder_of(tmp_path / "folder")
    encoder = load_pretrained(ModelConfig(name=name)).encoder
    model = timm.create_model(name.removeprefix("timm:"), pretrained=True).eval()
    pixels = torch.randn(2, 3, 96, 96)
    expected = embedding(model.forward_head(model.forward_features(pixels), pre_logits=True))
    torch.testing.assert_close(encoder(pixels), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "vit_wings"}, "architecture: timm has no 'vit_wings'"),
        ({"architecture": "test_efficientnet", "model_args": {}}, "EfficientNet cannot be split"),
        ({"model_args": {"depth": 10**9}}, "model_args.depth is 1000000000; allowed: -10000 to"),
        ({"model_args": {"wings": 2}}, "wings"),
        ({"pretrained_cfg": {"mean": [0.5, "x", 0.5]}}, "pretrained_cfg.mean.1: "),
        ({"pretrained_cfg": {"crop_pct": 0}}, "pretrained_cfg.crop_pct: "),
        ({"pretrained_cfg": {"input_size": [3, 10**6, 10]}}, "pretrained_cfg.input_size.1: "),
        ({"pretrained_cfg": {"input_size": [3, 96, 0]}}, "pretrained_cfg.input_size.2: "),
        ({"pretrained_cfg": None}, "pretrained_cfg: "),
    ],
)
def test_broken_folders_are_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(folder_of(tmp_path / "folder", **changes))


def test_folders_without_their_files_are_refused(tmp_path: Path) -> None:
    assert "config.json does not exist" in refusal(f"timm:local-dir:{tmp_path}")
    name = folder_of(tmp_path / "folder")
    (tmp_path / "folder" / "model.safetensors").unlink()
    assert "no weights in it" in refusal(name)
    with pytest.raises(ValidationError, match="has weights of its own"):
        ModelConfig(name=name, pretrained="w.pth")


def test_names_and_tags_come_with_a_suggestion(tmp_path: Path) -> None:
    assert "did you mean 'test_vit'?" in refusal("timm:test_vitt")
    assert "did you mean 'r160_in1k'?" in refusal("timm:test_vit.r160_in1")
    assert "EfficientNet cannot be split" in refusal("timm:test_efficientnet")
    assert "is no file; allowed: null" in refusal("timm:test_vit", str(tmp_path / "none.pth"))
    assert "timm has no weights of" in refusal("timm:vit_huge_patch14_gap_224.in1k_ijepa")


def test_a_failed_download_says_that_a_file_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise OSError("no route\nto host")

    monkeypatch.setattr("models.hub.snapshot_download", snapshot_download)
    message = refusal("timm:test_vit.r160_in1k")
    assert "timm/test_vit.r160_in1k cannot be downloaded (no route to host)" in message
    assert "--model timm:test_vit.r160_in1k:FILE" in message


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model_of(tmp_path / "other.safetensors", "test_vit3")
    assert "the file's keys begin with" in refusal(
        "timm:test_vit", str(tmp_path / "other.safetensors")
    )
    half = dict(list(timm.create_model("test_vit").state_dict().items())[::2])
    half["padding"] = torch.zeros(10**6)
    torch.save(half, tmp_path / "half.pth")
    assert "Missing key(s)" in refusal("timm:test_vit", str(tmp_path / "half.pth"))


def test_weights_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Intruder(), "padding": torch.zeros(10**6)}, tmp_path / "evil.pth")
    assert "Python objects" in refusal("timm:test_vit", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "intruded").exists()


def test_there_is_no_text_tower(tmp_path: Path) -> None:
    model_of(tmp_path / "w.safetensors")
    config = config_of(tmp_path / "w.safetensors")
    assert load_pretrained(config).zero_shot is None
    with pytest.raises(InputError, match="timm:test_vit has no text tower"):
        load_pretrained(config, Prompts(("cat", "dog"), ("{}",)))
