"""timm's EVA inside open_clip's adapter, as the EVA-CLIP and Perception Encoder towers are."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva as Trunk
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn

from errors import InputError
from models.encoder import LayerGroup, Run
from models.towers.base import chain, part_of, project_qkv, run_module
from models.towers.timm_trunk import TimmFamily, final_of

HEAD = {"fc_norm", "attn_pool", "head", "head_drop"}


class RotaryBlock(nn.Module):
    """A block, and the table that rotates its queries and keys if the tower has one.

    The table is a constant of the tower, so only the tokens cross a boundary.
    """

    table: Tensor | None

    def __init__(self, block: nn.Module, table: Tensor | None) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (n, t, w) to tokens (n, t, w)."""
        out: Tensor = self.block(x, rope=self.table)
        return out


class Eva(TimmFamily):
    """Towers whose trunk is timm's `Eva`.

    A block is a transformer block. Of towers that pool the class token, the last one runs for it
    alone, as in other ViTs.
    """

    name = "EVA and Perception Encoder"
    trunk = Trunk

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`.

        Raises:
            InputError: the table of rotary positions is trained, or is not the same for all images.
        """
        assert isinstance(tower, TimmModel)
        trunk = tower.trunk
        table = _rotary_table(trunk, tower.image_size)
        blocks = [RotaryBlock(block, table) for block in trunk.blocks]
        stem = part_of(trunk, without=HEAD | {"norm", "blocks"})
        final = final_of(tower, "norm", HEAD)
        last, no_decay = class_token_run(tower, blocks[-1]), trunk.no_weight_decay()
        return chain((stem, _run_stem), blocks, final, run_module, last, no_decay)


@torch.no_grad()
def _rotary_table(trunk: Any, image_size: tuple[int, int]) -> Tensor | None:
    """Return the table (tokens without prefix, 2 w / heads) of positions; None without one."""
    if trunk.rope is None:
        return None
    if any(True for _ in trunk.rope.parameters()) or trunk.patch_drop is not None:
        raise InputError(
            "model.name: this image tower has rotary positions that are learned, or patch_dropout "
            "beside them; allowed: fixed positions, of all patches"
        )
    trunk.eval()  # in training some are drawn at random
    blank = trunk.patch_embed.proj.weight.new_zeros(1, 3, *image_size)
    table: Tensor = trunk._pos_embed(trunk.patch_embed(blank))[1]
    return table


def _run_stem(trunk: nn.Module, x: Tensor) -> Tensor:
    x, _ = trunk._pos_embed(trunk.patch_embed(x))  # type: ignore[operator]
    out: Tensor = trunk.norm_pre(x)  # type: ignore[operator]
    return out


def class_token_run(tower: Any, rotary: RotaryBlock) -> Run | None:
    """Find how to run `rotary`, the last block, for its class token: (n, t, w) to (n, 1, w).

    None where the tower pools other tokens too, or the block is not one of timm's plain ones.
    """
    trunk = tower.trunk
    block: Any = rotary.block
    plain = type(block) in (EvaBlock, EvaBlockPostNorm) and type(block.attn) is EvaAttention
    pools_class_token = trunk.attn_pool is None and trunk.global_pool == "token"
    return _run_class_token if plain and block.attn.gate is None and pools_class_token else None


def _run_class_token(rotary: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(rotary, RotaryBlock)
    block: Any = rotary.block
    attend = partial(_attend, block.attn, table=rotary.table)
    if isinstance(block, EvaBlockPostNorm):
        x = x[:, :1] + block.drop_path1(block.norm1(attend(x)))
        out: Tensor = x + block.drop_path2(block.norm2(block.mlp(x)))
        return out
    x = x[:, :1] + block.drop_path1(_scaled(attend(block.norm1(x)), block.gamma_1))
    out = x + block.drop_path2(_scaled(block.mlp(block.norm2(x)), block.gamma_2))
    return out


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else gamma * x


def _attend(attn: Any, x: Tensor, table: Tensor | None) -> Tensor:
    """Run EVA's attention with the first token, which is not rotated, as its only query."""
    q, k, v = _projected(attn, x)
    q, k = attn.q_norm(q), attn.k_norm(k)
    if table is not None:
        prefix, patches = k.tensor_split([attn.num_prefix_tokens], dim=2)
        rotated = apply_rot_embed_cat(patches, table, half=attn.rotate_half)
        k = torch.cat([prefix, rotated], dim=2)
    dropout = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(q.type_as(v), k.type_as(v), v, dropout_p=dropout)
    projected: Tensor = attn.proj_drop(attn.proj(attn.norm(out.transpose(1, 2).flatten(2))))
    return projected


def _projected(attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if attn.qkv is not None:
        biased = attn.q_bias is not None
        bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias]) if biased else None
        return project_qkv(x, attn.qkv.weight, bias, attn.num_heads, queries=1)

    def heads(x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(-1, (attn.num_heads, -1))
        return split.transpose(1, 2)

    return heads(attn.q_proj(x[:, :1])), heads(attn.k_proj(x)), heads(attn.v_proj(x))
