"""timm's vision transformers inside open_clip's adapter, as the SigLIP towers are."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from models.encoder import LayerGroup, Run
from models.towers.base import chain, part_of, project_qkv, run_module
from models.towers.timm_trunk import TimmFamily, final_of

HEAD = {"fc_norm", "attn_pool", "head", "head_drop"}


class TimmViT(TimmFamily):
    """Towers whose trunk is timm's `VisionTransformer`."""

    name = "ViT of timm"
    trunk = VisionTransformer

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        stem = part_of(trunk, without=HEAD | {"norm", "blocks"})
        final = final_of(tower, "norm", HEAD)
        last = class_token_run(tower, trunk.blocks[-1])
        run, no_decay = run_module, trunk.no_weight_decay()
        return chain((stem, _run_stem), trunk.blocks, final, run, last, no_decay)


def class_token_run(tower: Any, block: nn.Module) -> Run | None:
    """Find how to run `block`, the last one, for its class token: (n, t, w) to (n, 1, w).

    None where the tower pools other tokens too, or the block is not timm's plain one.
    """
    trunk = tower.trunk
    plain = type(block) is Block and type(block.attn) is Attention
    ungated = plain and getattr(block.attn, "gate", None) is None
    pools_class_token = trunk.attn_pool is None and trunk.global_pool == "token"
    return _run_class_token if ungated and pools_class_token else None


def _run_class_token(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, Block)
    attended = _attend(block.attn, block.norm1(x))
    x = x[:, :1] + block.drop_path1(block.ls1(attended))
    out: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return out


def _attend(attn: Attention, x: Tensor) -> Tensor:
    """Run timm's attention with the first token as its only query."""
    q, k, v = project_qkv(x, attn.qkv.weight, attn.qkv.bias, attn.num_heads, queries=1)
    dropout = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=dropout)
    out = attn.norm(out.transpose(1, 2).flatten(2))
    projected: Tensor = attn.proj_drop(attn.proj(out))
    return projected


def _run_stem(trunk: nn.Module, x: Tensor) -> Tensor:
    x = trunk._pos_embed(trunk.patch_embed(x))  # type: ignore[operator]
    out: Tensor = trunk.norm_pre(trunk.patch_drop(x))  # type: ignore[operator]
    return out
