"""timm's FastViT inside open_clip's adapter, as the MobileCLIP towers are."""

from __future__ import annotations

from timm.models.fastvit import FastVit

from models.towers.base import Rules
from models.towers.timm_trunk import POOL, StagedFamily

KINDS: Rules = (
    *POOL,
    (r"(^|\.)token_mixer\.(qkv|proj)\.", "attn"),
    (r"(^|\.)token_mixer\.layer_scale\.", "conv"),
    (r"(^|\.)layer_scale_1\.", "attn"),
    (r"(^|\.)layer_scale(_2)?\.", "mlp"),
    (r"^trunk\.final_conv\.", "conv"),
)


class FastViT(StagedFamily):
    """Towers whose trunk is timm's `FastVit`.

    A block mixes tokens, by convolutions (`conv`) or by attention, and has an MLP, which includes a
    depthwise convolution. The first of a stage has the stage's downsampling and position
    embedding, both of them convolutions. The parallel branches of a convolution stay as they are:
    fused, they would train otherwise. Features are maps (n, channels, height, width).
    """

    name = "FastViT (MobileCLIP)"
    trunk = FastVit
    last, rules = "final_conv", KINDS
