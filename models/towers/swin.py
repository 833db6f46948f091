"""timm's Swin Transformer inside open_clip's adapter."""

from __future__ import annotations

from open_clip.timm_model import TimmModel
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from models.encoder import LayerGroup
from models.towers.base import Rules, TowerFamily, chain, run_module
from models.towers.timm_trunk import final_of, staged_blocks

KINDS: Rules = ((r"^downsample\.", "conv"),)


class Swin(TowerFamily):
    """Towers whose trunk is timm's `SwinTransformer`.

    A block is a transformer block of one window size and shift. The first of a stage has the
    stage's patch merging, a norm and a convolution of stride 2 written as a matrix (`conv`).
    Features are maps (n, height, width, channels).
    """

    name = "Swin"

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is open_clip's adapter around a `SwinTransformer` of timm."""
        return isinstance(tower, TimmModel) and isinstance(tower.trunk, SwinTransformer)

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        blocks, final = staged_blocks(trunk.layers), final_of(tower, "norm")
        return chain((trunk.patch_embed, run_module), blocks, final, run_module, rules=KINDS)
