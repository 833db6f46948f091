"""timm's ConvNeXt inside open_clip's adapter."""

from __future__ import annotations

from timm.models.convnext import ConvNeXt as Trunk

from models.towers.base import Rules
from models.towers.timm_trunk import POOL, StagedFamily

KINDS: Rules = (
    *POOL,
    (r"(^|\.)gamma$", "mlp"),  # it scales the branch that the MLP ends
)


class ConvNeXt(StagedFamily):
    """Towers whose trunk is timm's `ConvNeXt`, or ConvNeXt V2.

    A block is a residual one: a depthwise convolution (`conv`), a norm and an MLP. The first of
    a stage has the stage's downsampling, a norm and a convolution. Features are maps (n, channels,
    height, width).
    """

    name = "ConvNeXt"
    trunk = Trunk
    last, rules = "norm_pre", KINDS
