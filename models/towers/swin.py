"""timm's Swin Transformer inside open_clip's adapter."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer

from models.towers.base import Rules
from models.towers.timm_trunk import StagedFamily

KINDS: Rules = ((r"^downsample\.", "conv"),)


class Swin(StagedFamily):
    """Towers whose trunk is timm's `SwinTransformer`.

    A block is a transformer block of one window size and shift. The first of a stage has the
    stage's patch merging, a norm and a convolution of stride 2 written as a matrix (`conv`).
    Features are maps (n, height, width, channels).
    """

    name = "Swin"
    trunk = SwinTransformer
    stem, stages, last, rules = "patch_embed", "layers", "norm", KINDS
