"""Tiny open_clip image towers, and toy data: the real classes, a few thousand weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, Transformer
from open_clip.transformer import VisionTransformer as NativeViT
from timm.layers import LayerNorm2d
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.fastvit import FastVit, RepConditionalPosEnc
from timm.models.resnet import Bottleneck
from timm.models.resnet import ResNet as TimmResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer as TimmViT
from timm.models.vision_transformer_relpos import ResPostRelPosBlock, VisionTransformerRelPos
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
    return adapted(TimmViT(**settings), pool, proj)  # type: ignore[arg-type]


def adapted(trunk: nn.Module, pool: str, proj: str = "linear") -> nn.Module:
    """A trunk of timm's inside open_clip's adapter."""
    trunk.default_cfg = {"pool_size": (2, 2)} if pool.endswith("_attn") else {}
    with mock.patch("timm.create_model", return_value=trunk):
        return stirred(TimmModel("tiny", embed_dim=DIM, image_size=IMAGE, pool=pool, proj=proj))


def eva(pool: str = "token", **options: Any) -> nn.Module:
    settings = {
        **{"img_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH},
        **{"num_heads": 2, "mlp_ratio": 2.0, "num_classes": DIM, "global_pool": pool},
        **{"use_rot_pos_emb": True, "ref_feat_shape": (2, 2), **options},
    }
    return adapted(Eva(**settings), pool, proj="")


def relative(pool: str = "token", **options: Any) -> nn.Module:
    settings = {
        **{"img_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH},
        **{"num_heads": 2, "mlp_ratio": 2.0, "num_classes": 0, "global_pool": pool},
        **{"rel_pos_dim": 8, "class_token": pool == "token", **options},
    }
    tower = adapted(VisionTransformerRelPos(**settings), "")
    for module in tower.modules():  # in timm's own a dropout that no option turns off
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return tower


# The stages of these are of one block and of two.


def convnext(pool: str = "avg", proj: str = "linear", **options: Any) -> nn.Module:
    settings = {"depths": (1, 2, 1, 1), "dims": (8, 16, 16, 16), "ls_init_value": 0.1, **options}
    trunk = ConvNeXt(num_classes=0, kernel_sizes=3, **settings)
    trunk.stages = trunk.stages[:2]
    trunk.num_features = settings["dims"][1]
    return adapted(trunk, pool, proj)


def swin(**options: Any) -> nn.Module:
    settings = {
        **{"img_size": IMAGE, "patch_size": 2, "embed_dim": 8, "depths": (1, 2)},
        **{"num_heads": (1, 2), "window_size": 2, "mlp_ratio": 2.0, "num_classes": 0},
        **{"drop_path_rate": 0.0, **options},
    }
    return adapted(SwinTransformer(**settings), "avg")


def fastvit(**options: Any) -> nn.Module:
    settings = {
        **{"layers": (1, 2), "token_mixers": ("repmixer", "attention"), "embed_dims": (8, 32)},
        **{"mlp_ratios": (2, 2), "downsamples": (False, True), "se_downsamples": (False, True)},
        **{"pos_embs": (None, partial(RepConditionalPosEnc, spatial_shape=(7, 7)))},
        **{"num_classes": DIM, "layer_scale_init_value": 0.1, "lkc_use_act": True, **options},
    }
    return adapted(FastVit(**settings), "avg", proj="")


def resnet() -> nn.Module:
    tower = ModifiedResNet([1, 2, 1, 1], output_dim=DIM, heads=2, image_size=32, width=8)
    tower.image_size = IMAGE
    tower.layer3 = tower.layer4 = nn.Sequential()
    tower.attnpool = AttentionPool2d(IMAGE // 8, 64, 2, DIM)
    return stirred(tower)


def timm_resnet() -> nn.Module:
    settings = {
        **{"block": Bottleneck, "layers": (1, 2, 1, 1), "channels": (4, 8, 8, 8)},
        **{"cardinality": 2, "stem_type": "deep", "avg_down": True, "num_classes": 0},
        **{"block_args": {"attn_layer": "se"}},
    }
    trunk = TimmResNet(**settings)
    trunk.layer3 = trunk.layer4 = nn.Sequential()
    trunk.num_features = trunk.layer2[-1].conv3.out_channels
    return adapted(trunk, "avg")


STEMS = {
    ConvNeXt: "trunk.stem.",
    FastVit: "trunk.stem.",
    SwinTransformer: "trunk.patch_embed.",
}
STAGES = {ConvNeXt: "stages", FastVit: "stages", SwinTransformer: "layers"}

TOWERS: dict[str, Callable[[], nn.Module]] = {
    "native": native,
    "native, QuickGELU": lambda: native(act_layer=QuickGELU),
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
    "EVA, token": lambda: eva(init_values=0.1),
    "EVA, token, swiglu": lambda: eva(
        qkv_fused=False, swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True, num_reg_tokens=1
    ),
    "EVA, token, post-norm": lambda: eva(use_post_norm=True, use_rot_pos_emb=False),
    "EVA, map": lambda: eva("map", attn_type="rope", use_pre_transformer_norm=True),
    "relative positions, token": relative,
    "relative positions, average": lambda: relative(
        "avg", rel_pos_type="bias", block_fn=ResPostRelPosBlock, fc_norm=True
    ),
    "ConvNeXt": convnext,
    "ConvNeXt, mlp": lambda: convnext(proj="mlp", conv_mlp=True, use_grn=True),
    "ConvNeXt, learned positions": lambda: convnext("abs_attn", "", dims=(8, 64, 64, 64)),
    "ConvNeXt, rotary positions": lambda: convnext("rot_attn", "", dims=(8, 64, 64, 64)),
    "Swin": swin,
    "FastViT": fastvit,
    "FastViT, LayerNorm": lambda: fastvit(norm_layer=LayerNorm2d, stem_use_scale_branch=False),
    "ResNet": resnet,
    "ResNet, timm": timm_resnet,
}
"""Every shape of tower that the encoder claims to understand."""


@torch.no_grad()
def stirred(tower: nn.Module) -> nn.Module:
    """`tower` with random weights everywhere: no zero bias or unit scale that hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tower.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and not name.endswith("gamma"):
            inputs = parameter[0].numel() if parameter.ndim == 4 else parameter.shape[-1]
            parameter.copy_(noise / inputs**0.5)
        else:
            parameter.copy_(0.2 * noise + name.endswith(("weight", "gamma", "scale")))
    for name, statistics in tower.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            noise = torch.rand(statistics.shape, generator=generator)
            statistics.copy_(0.2 * (noise - 0.5) + 2.0 * name.endswith("var"))
    return tower


def outputs(tower: nn.Module, pixels: Tensor) -> Tensor:
    """The tower as open_clip calls it; CoCa's returns its tokens too."""
    found = tower(pixels)
    pooled: Tensor = found[0] if isinstance(found, tuple) else found
    return pooled


def tower_name(tower: nn.Module, group: str, name: str) -> str:
    """What the tower calls the parameter that `group` calls `name`."""
    name = name.removeprefix("part.")
    trunk = getattr(tower, "trunk", None)
    if group == "final":
        return name
    if group == "stem":
        return STEMS.get(type(trunk), "" if trunk is None else "trunk.") + name
    index = int(group.removeprefix("block "))
    stage, place = ((0, 0), (1, 0), (1, 1))[index]
    if isinstance(trunk or tower, ModifiedResNet | TimmResNet):
        return f"{'trunk.' if trunk else ''}layer{stage + 1}.{place}.{name}"
    if type(trunk) not in STAGES:
        blocks = "transformer.resblocks" if trunk is None else "trunk.blocks"
        return f"{blocks}.{index}.{name.removeprefix('block.')}"
    owner = f"trunk.{STAGES[type(trunk)]}.{stage}"
    if place == 0:
        return f"{owner}.{re.sub('^block', 'blocks.0', name)}"
    return f"{owner}.blocks.{place}.{name}"


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
