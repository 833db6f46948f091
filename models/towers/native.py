"""open_clip's own vision transformers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from models.encoder import LayerGroup, Run, embedding
from models.towers.base import TowerFamily, chain, part_of, project_qkv, run_module

BLOCKS = {"transformer"}
FINAL = {"ln_post", "proj", "attn_pool", "attn_pool_contrastive"}


class NativeViT(TowerFamily):
    """Towers of open_clip's `VisionTransformer`: CLIP's own, CoCa's, EVA's custom blocks."""

    name = "ViT of open_clip"

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is a `VisionTransformer` of open_clip."""
        return isinstance(tower, VisionTransformer)

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, VisionTransformer)
        stem, final = part_of(tower, without=BLOCKS | FINAL), part_of(tower, only=FINAL)
        blocks = list(tower.transformer.resblocks)
        run: Run = run_module if tower.transformer.batch_first else _run_sequence_first
        if all(is_plain_block(block) for block in blocks):
            run = run_block
        last = class_token_run(tower, blocks[-1])
        no_decay = tower.no_weight_decay()
        return chain((stem, _run_stem), blocks, (final, _run_final), run, last, no_decay)


def class_token_run(tower: Any, block: nn.Module) -> Run | None:
    """Find how to run `block`, the last one, for its class token: (n, t, w) to (n, 1, w).

    None where the tower pools other tokens too, or the block is not open_clip's plain one.
    """
    pools_class_token = tower.attn_pool is None and tower.pool_type == "tok"
    return _run_class_token if pools_class_token and is_plain_block(block) else None


def is_plain_block(block: nn.Module) -> bool:
    """Say whether `run_block` runs it: open_clip's plain block, over batches of token rows."""
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return False
    attn: Any = block.attn
    packed = attn.in_proj_weight is not None and attn.in_proj_bias is not None
    return bool(attn.batch_first and packed and attn.bias_k is None and not attn.dropout)


def run_block(block: nn.Module, x: Tensor, queries: int | None = None) -> Tensor:
    """Run a plain block on tokens (n, t, w); returns the first `queries` of them, or all.

    These are the block's own operations on its own weights, by hand: torch's
    `MultiheadAttention` transposes its input first and, where its weights need no gradient,
    multiplies with a copy of them for each token.
    """
    assert isinstance(block, ResidualAttentionBlock)
    attn = block.attn
    q, k, v = project_qkv(
        block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias, attn.num_heads, queries
    )
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x[:, :queries] + block.ls_1(attn.out_proj(attended))
    out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out


_run_class_token = partial(run_block, queries=1)


def _run_sequence_first(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x.transpose(0, 1)).transpose(0, 1)
    return out


def _run_stem(tower: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = tower._embeds(x)  # type: ignore[operator]
    return out


def _run_final(tower: nn.Module, x: Tensor) -> Tensor:
    pooled, _ = tower._pool(x)  # type: ignore[operator]
    return embedding(pooled if tower.proj is None else pooled @ tower.proj)
