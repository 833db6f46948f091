"""Tiny open_clip image towers, and toy data: the real classes, a few thousand weights."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.timm_model import TimmModel
from open_clip.transformer import Transformer
from open_clip.transformer import VisionTransformer as NativeViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models.encoder import PIXELS, Encoder
from models.feature_dataset import FeatureDataset

IMAGE, PATCH, WIDTH, DEPTH, DIM = 16, 8, 32, 3, 12


def native(**options: object) -> nn.Module:
    """open_clip's own ViT."""
    settings = {
        **{"image_size": IMAGE, "patch_size": PATCH, "width": WIDTH, "layers": DEPTH},
        **{"heads": 2, "mlp_ratio": 2.0, "output_dim": DIM, **options},
    }
    return stirred(NativeViT(**settings))  # type: ignore[arg-type]


def sequence_first() -> nn.Module:
    tower = native()
    tower.transformer = Transformer(WIDTH, DEPTH, 2, 2.0, batch_first=False)
    return stirred(tower)


def timm(pool: str = "token", proj: str = "linear", **options: object) -> nn.Module:
    """timm's ViT inside open_clip's adapter, as the SigLIP towers are."""
    settings = {
        **{"img_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH},
        **{"num_heads": 2, "mlp_ratio": 2.0, "num_classes": 0, "global_pool": pool},
        **{"class_token": pool == "token", **options},
    }
    trunk = TimmViT(**settings)  # type: ignore[arg-type]
    trunk.default_cfg = {}
    with mock.patch("timm.create_model", return_value=trunk):
        return stirred(TimmModel("tiny", embed_dim=DIM, image_size=IMAGE, pool=pool, proj=proj))


TOWERS: dict[str, Callable[[], nn.Module]] = {
    "native": native,
    "native, layer scale": lambda: native(ls_init_value=0.1),
    "native, average": lambda: native(pool_type="avg", final_ln_after_pool=True, no_ln_pre=True),
    "native, sequence first": sequence_first,
    "native, normed attention": lambda: native(
        block_type="custom", qk_norm=True, scale_attn=True, scale_fc=True, scale_heads=True
    ),
    "native, CoCa": lambda: native(
        attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2, output_tokens=True
    ),
    "timm, token": timm,
    "timm, average": lambda: timm("avg"),
    "timm, average, layer scale": lambda: timm("avg", init_values=0.1, reg_tokens=2, pre_norm=True),
    "timm, map": lambda: timm("map", proj="none"),
    "timm, map, mlp": lambda: timm("map", proj="mlp", qk_norm=True),
}
"""Every shape of tower that the encoder claims to understand."""


@torch.no_grad()
def stirred(tower: nn.Module) -> nn.Module:
    """`tower` with random weights everywhere: no zero bias or unit scale that hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tower.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
        else:
            parameter.copy_(0.2 * noise + name.endswith(("weight", "gamma", "scale")))
    return tower


def outputs(tower: nn.Module, pixels: Tensor) -> Tensor:
    """The tower as open_clip calls it; CoCa's returns its tokens too."""
    found = tower(pixels)
    pooled: Tensor = found[0] if isinstance(found, tuple) else found
    return pooled


def tower_name(tower: nn.Module, group: str, name: str) -> str:
    """What the tower calls the parameter that `group` calls `name`."""
    name = name.removeprefix("part.")
    if isinstance(tower, TimmModel):
        prefixes = {"stem": "trunk.", "final": ""}
        blocks = "trunk.blocks."
    else:
        prefixes = {"stem": "", "final": ""}
        blocks = "transformer.resblocks."
    if group in prefixes:
        return prefixes[group] + name
    return blocks + group.removeprefix("block ") + "." + name


def pixels(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, IMAGE, IMAGE, generator=generator, dtype=torch.float64).to(dtype)


def examples(features: Tensor | NDArray[np.generic], labels: NDArray[np.int64]) -> FeatureDataset:
    """All rows, read-only as they are in a search."""
    array = features.numpy() if isinstance(features, Tensor) else features
    array = array.copy()
    array.flags.writeable = False
    return FeatureDataset(array, labels, np.arange(len(labels)))


def at(
    encoder: Encoder, boundary: str, images: Tensor, labels: NDArray[np.int64]
) -> FeatureDataset:
    """Images as examples cached at `boundary`."""
    found = images if boundary == PIXELS else encoder.features(images, [boundary])[boundary]
    return examples(found, labels)
