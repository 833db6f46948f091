"""timm's vision transformers with relative positions inside open_clip's adapter."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from errors import InputError
from models.encoder import LayerGroup
from models.towers.base import chain, part_of, run_module
from models.towers.timm_trunk import TimmFamily, final_of

HEAD = {"fc_norm", "head", "head_drop"}


class RelPosViT(TimmFamily):
    """Towers whose trunk is timm's `VisionTransformerRelPos`.

    Every block has its own relative positions, which are part of its attention.
    """

    name = "ViT of timm with relative positions"
    trunk = VisionTransformerRelPos

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`.

        Raises:
            InputError: the blocks share one table of positions, so that no block is one by itself.
        """
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        if trunk.shared_rel_pos is not None:
            raise InputError(
                "model.name: the blocks of this image tower share one table of relative positions; "
                "allowed: towers in which every block has its own"
            )
        stem = part_of(trunk, only={"patch_embed", "cls_token"})
        final = final_of(tower, "norm", HEAD)
        no_decay = trunk.no_weight_decay()
        return chain((stem, _run_stem), trunk.blocks, final, run_module, no_decay=no_decay)


def _run_stem(trunk: Any, x: Tensor) -> Tensor:
    patches: Tensor = trunk.patch_embed(x)
    if trunk.cls_token is None:
        return patches
    tokens = trunk.cls_token.expand(x.shape[0], -1, -1)  # len() would fix n in an ONNX file
    return torch.cat([tokens, patches], dim=1)
