"""How blocks are run, and the last one of a tower that reads its class token alone.

Of the last block's output such a tower uses one token. So one query, one row through the MLP and
one token of output are enough; keys and values still come from every token. This is exact, and
takes a twenty-fifth of the time where there are 197 tokens.

open_clip's own blocks are run by hand (`native_block`), the same operations on the same weights:
torch's `MultiheadAttention` transposes its input first, and where its weights need no gradient,
the product with them becomes one for each token, with a copy of the weights for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock
from open_clip.transformer import VisionTransformer as NativeViT
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]


def class_token_run(tower: nn.Module, block: nn.Module) -> Run | None:
    """How to run `block`, the last one of `tower`, for its class token: (n, t, w) to (n, 1, w).

    None where the tower pools other tokens too, or the block is of a kind that we don't know.
    """
    if isinstance(tower, NativeViT):
        pools_class_token = tower.attn_pool is None and tower.pool_type == "tok"
        return _native if is_native_block(block) and pools_class_token else None
    if isinstance(tower, TimmModel) and tower.trunk.attn_pool is None:
        plain = type(block) is Block and type(block.attn) is Attention
        ungated = plain and getattr(block.attn, "gate", None) is None
        return _timm if ungated and tower.trunk.global_pool == "token" else None
    return None


def is_native_block(block: nn.Module) -> bool:
    """Whether `native_block` runs it: open_clip's plain block, over batches of token rows."""
    if type(block) is not ResidualAttentionBlock or hasattr(block, "ln_1_kv"):
        return False
    attn: Any = block.attn
    packed = attn.in_proj_weight is not None and attn.in_proj_bias is not None
    return bool(attn.batch_first and packed and attn.bias_k is None and not attn.dropout)


def native_block(block: nn.Module, x: Tensor, queries: int | None = None) -> Tensor:
    """A plain block of open_clip's on (n, t, w); of its output the first `queries` tokens."""
    assert isinstance(block, ResidualAttentionBlock)
    attn = block.attn
    q, k, v = _projected(
        block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias, attn.num_heads, queries
    )
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    x = x[:, :queries] + block.ls_1(attn.out_proj(attended))
    out: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return out


def _projected(
    x: Tensor, weight: Tensor, bias: Tensor | None, heads: int, queries: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the first `queries` tokens of (n, t, w), all without; keys and values of all."""
    n, tokens, _ = x.shape
    width = len(weight) // 3
    if queries is None:
        qkv = F.linear(x, weight, bias).reshape(n, tokens, 3, heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v
    weights = weight.split([width, 2 * width])
    biases = (None, None) if bias is None else bias.split([width, 2 * width])
    q = F.linear(x[:, :queries], weights[0], biases[0]).reshape(n, queries, heads, -1)
    kv = F.linear(x, weights[1], biases[1]).reshape(n, tokens, 2, heads, -1)
    k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
    return q.transpose(1, 2), k, v


def _native(block: nn.Module, x: Tensor) -> Tensor:
    return native_block(block, x, queries=1)


def _timm(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, Block)
    attended = _attention(block.attn, block.norm1(x))
    x = x[:, :1] + block.drop_path1(block.ls1(attended))
    out: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return out


def _attention(attn: Attention, x: Tensor) -> Tensor:
    """timm's attention with the first token as its only query."""
    q, k, v = _projected(x, attn.qkv.weight, attn.qkv.bias, attn.num_heads, queries=1)
    dropout = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(attn.q_norm(q), attn.k_norm(k), v, dropout_p=dropout)
    out = attn.norm(out.transpose(1, 2).flatten(2))
    projected: Tensor = attn.proj_drop(attn.proj(out))
    return projected
