"""Packages of small winners, one for each form and shape of tower."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from models.config import ModelConfig
from models.exported import (
    Adapted,
    Description,
    exported_weights,
    save_exported,
)
from models.loading import load_pretrained
from models.package import Card
from models.recipe import Recipe
from models.selection import select
from tests.models.fits import CLASSES
from tests.models.test_exported import tuned
from tests.models.tiny_clip import CONFIG, folder_of
from tests.models.tiny_towers import stirred

NAMES = ("=cmd|' /C calc'!A0", "[x](javascript:0)|\n# <b>\x1b[31m", "Löwe, 狮子")
CARD = Card(
    run="small",
    source="folder:/home/me/secret/flowers",
    partition="100%",
    method="llrd",
    configuration="all of block 2, lr 1e-2",
    accuracy="61.2 ± 3.1%",
    seed=0,
    seed_accuracy="62.0%",
)
TIMM = {
    "timm_model_name": "test_vit.r160_in1k",
    "timm_pool": "token",
    "timm_proj": "linear",
    "image_size": 160,
}
SIGLIP_WIDTH = 96
SIGLIP = {"timm_model_name": "test_vit3.r160_in1k", "timm_pool": "map", "timm_proj": "none"}
VISION: dict[str, dict[str, Any]] = {
    "timm": TIMM,
    "SigLIP": {**TIMM, **SIGLIP},
    "native, large images": CONFIG["vision_cfg"],
    "ConvNeXt": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": "avg"},
    "ResNet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "patch_size": None},
}
ALONE = {"timm alone": ("test_vit", 96), "timm alone, ResNet": ("test_resnet", None)}
"""Names of timm's, and sizes of images."""
RECIPES: dict[str, dict[str, Any]] = {
    "native": {"blocks": "1-0", "kinds": "ln+attn+mlp"},
    "native, LoRA": {"blocks": "1", "kinds": "attn+mlp", "lora_rank": 2},
    "native, final": {"blocks": "final", "kinds": "proj"},
    "timm": {"blocks": "5-4", "kinds": "ln+mlp"},
    "SigLIP": {"blocks": "final", "kinds": "proj"},
    "native, large images": {"blocks": "1", "kinds": "mlp"},
    "ConvNeXt": {"blocks": "4-1", "kinds": "ln+mlp+conv"},
    "ResNet": {"blocks": "all", "kinds": "ln+attn+conv+proj"},
    "timm alone": {"blocks": "5-4", "kinds": "ln+mlp+proj"},
    "timm alone, ResNet": {"blocks": "all", "kinds": "ln+conv"},
}


def base(path: Path, vision: dict[str, Any]) -> str:
    """A `local-dir:` of a tiny CLIP with this image tower."""
    torch.manual_seed(0)
    tower = vision or CONFIG["vision_cfg"]
    dim = SIGLIP_WIDTH if tower.get("timm_proj") == "none" else CONFIG["embed_dim"]
    model = open_clip.model.CLIP(dim, tower, CONFIG["text_cfg"])
    name = folder_of(path, model, std=[0.3, 0.4, 0.5])
    file = path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"] |= {"embed_dim": dim, "vision_cfg": tower}
    file.write_text(json.dumps(config))
    return name


def described(model: ModelConfig, recipe: Recipe, fingerprint: str) -> Description:
    return Description(
        recipe=recipe,
        boundary="pixels",
        model=model,
        fingerprint=fingerprint,
        precision="float32",
        classes=NAMES,
    )


def winner(path: Path, name: str) -> Path:
    """The file of weights of a winner: a fit's, or made up for a tower of larger images."""
    size = 32 if name.endswith("large images") else None
    if name in ALONE:
        file = path / "base.safetensors"
        save_file(stirred(timm.create_model(ALONE[name][0])).state_dict(), file)
        model = ModelConfig(
            name=f"timm:{ALONE[name][0]}", pretrained=str(file), image_size=ALONE[name][1]
        )
    else:
        model = ModelConfig(name=base(path / "base", VISION.get(name, {})), image_size=size)
    found = load_pretrained(model)
    if name in {*VISION, *ALONE}:
        recipe = Recipe(**RECIPES[name])
        torch.manual_seed(1)
        weights: dict[str, Tensor] = {
            p.key: 1.3 * found.encoder.group(p.group).get_parameter(p.name)
            for p in select(recipe, found.encoder).parameters
        }
        weights["head/weight"] = torch.randn(CLASSES, found.encoder.dim)
        weights["head/bias"] = torch.randn(CLASSES)
    else:
        fit = tuned(found.encoder, "pixels", **RECIPES[name])
        recipe, weights = fit.recipe, exported_weights(fit)
    save_exported(path / "w.safetensors", described(model, recipe, found.fingerprint), weights)
    return path / "w.safetensors"


@dataclass(frozen=True)
class Packed:
    """A package, and the model that it is made of."""

    folder: Path
    ours: Adapted

    def pixels(self, n: int) -> Tensor:
        size = self.ours.preprocess(Image.new("RGB", (9, 7))).shape
        return torch.randn(n, *size, generator=torch.Generator().manual_seed(n))
