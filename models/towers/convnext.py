"""timm's ConvNeXt inside open_clip's adapter."""

from __future__ import annotations

from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt as Trunk
from torch import nn

from models.encoder import LayerGroup
from models.towers.base import Rules, TowerFamily, chain, run_module
from models.towers.timm_trunk import POOL, final_of, staged_blocks

KINDS: Rules = (
    *POOL,
    (r"(^|\.)gamma$", "mlp"),  # it scales the branch that the MLP ends
)


class ConvNeXt(TowerFamily):
    """Towers whose trunk is timm's `ConvNeXt`, or ConvNeXt V2.

    A block is a residual one: a depthwise convolution (`conv`), a norm and an MLP. The first of
    a stage has the stage's downsampling, a norm and a convolution. Features are maps (n, channels,
    height, width).
    """

    name = "ConvNeXt"

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is open_clip's adapter around a `ConvNeXt` of timm."""
        return isinstance(tower, TimmModel) and isinstance(tower.trunk, Trunk)

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        blocks, final = staged_blocks(trunk.stages), final_of(tower, "norm_pre")
        return chain((trunk.stem, run_module), blocks, final, run_module, rules=KINDS)
