"""timm's FastViT inside open_clip's adapter, as the MobileCLIP towers are."""

from __future__ import annotations

from open_clip.timm_model import TimmModel
from timm.models.fastvit import FastVit
from torch import nn

from models.encoder import LayerGroup
from models.towers.base import Rules, TowerFamily, chain, run_module
from models.towers.timm_trunk import POOL, final_of, staged_blocks

KINDS: Rules = (
    *POOL,
    (r"(^|\.)token_mixer\.(qkv|proj)\.", "attn"),
    (r"(^|\.)token_mixer\.layer_scale\.", "conv"),
    (r"(^|\.)layer_scale_1\.", "attn"),
    (r"(^|\.)layer_scale(_2)?\.", "mlp"),
    (r"^trunk\.final_conv\.", "conv"),
)


class FastViT(TowerFamily):
    """Towers whose trunk is timm's `FastVit`.

    A block mixes tokens, by convolutions (`conv`) or by attention, and has an MLP, which includes a
    depthwise convolution. The first of a stage has the stage's downsampling and position
    embedding, both of them convolutions. The parallel branches of a convolution stay as they are:
    fused, they would train otherwise. Features are maps (n, channels, height, width).
    """

    name = "FastViT (MobileCLIP)"

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is open_clip's adapter around a `FastVit` of timm."""
        return isinstance(tower, TimmModel) and isinstance(tower.trunk, FastVit)

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        blocks, final = staged_blocks(trunk.stages), final_of(tower, "final_conv")
        return chain((trunk.stem, run_module), blocks, final, run_module, rules=KINDS)
