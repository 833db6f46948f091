"""What a family of image towers provides, and what families share."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from errors import InputError
from models.encoder import LayerGroup, Run

Rules = Sequence[tuple[str, str]]
"""Patterns that are searched in a parameter's name, each with the kind that it means."""

ATTENTION = (r"attn.*\.|(^|\.)(ls_?1|gamma_1)(\.|$)", "attn")
MLP = (r"mlp|(^|\.)(ls_?2|gamma_2)(\.|$)", "mlp")
"""A layer scale belongs to the branch that it scales."""
NO_MATRICES = {"relative_position_bias_table", "positional_embedding", "pos_embed", "gamma"}
"""The last names of position embeddings and scales, which have no weight decay in any shape."""


class TowerFamily(ABC):
    """Image towers of one architecture, and how to split one into layer groups.

    A block is what an architecture repeats: a transformer block, or a residual block. Where blocks
    come in *stages* of falling resolution, what leads into a stage belongs to its first block. So
    `blocks: 11-7` and layer-wise decay mean the same in every family, and a boundary lies wherever
    features can be cached. Stages would be too coarse: of ConvNeXt-Base's 36 blocks, 27 are one.

    Attributes:
        name: what messages and docs/encoders.md call the family.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower`, the image tower of an open_clip model, is of this family."""

    @abstractmethod
    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split `tower` into "stem", "block 0" … "block L-1" and "final".

        The groups share the tower's parameters. Run in a row they are the tower, up to its
        projected output, which `models.encoder.embedding` has made an embedding.

        Raises:
            InputError: a part of the tower has no known kind.
        """


def chain(
    stem: tuple[nn.Module, Run],
    blocks: Iterable[nn.Module],
    final: tuple[nn.Module, Run],
    run: Run,
    last: Run | None = None,
    no_decay: Iterable[str] = (),
    rules: Rules = (),
) -> list[LayerGroup]:
    """Make the layer groups of a tower from what lies below, in and above its blocks.

    `last` is how the last block runs, where it runs otherwise, `no_decay` names what weight decay
    passes over in the stem, and `rules` are for kinds in the blocks and above.
    """
    parts = list(blocks)
    runs = [run] * (len(parts) - 1) + [last or run]

    def group(name: str, part: nn.Module, run: Run, default: str | None = None) -> LayerGroup:
        return LayerGroup(name, part, run, kinds_of(part, default, rules), _no_matrices(part))

    return [
        LayerGroup("stem", *stem, kinds_of(stem[0], "embed"), frozenset(no_decay)),
        *(group(f"block {i}", part, runs[i]) for i, part in enumerate(parts)),
        group("final", *final, default="proj"),
    ]


def _no_matrices(part: nn.Module) -> frozenset[str]:
    names = (name for name, _ in part.named_parameters())
    return frozenset(name for name in names if name.rpartition(".")[2] in NO_MATRICES)


def part_of(
    tower: nn.Module, only: set[str] | None = None, without: Iterable[str] = ()
) -> nn.Module:
    """Make a shallow copy of `tower` that owns only some of its children and parameters.

    The tower's own methods still run on it, so its forward pass is not written again here.
    """

    def kept(name: str) -> bool:
        return name not in without and (only is None or name in only)

    part = copy.copy(tower)
    for store in ("_modules", "_parameters", "_buffers"):
        children = getattr(tower, store)
        # None stays: the tower asks `if self.attn_pool is not None`.
        owned = {name: child for name, child in children.items() if child is None or kept(name)}
        part.__dict__[store] = owned
    return part


def run_module(module: nn.Module, x: Tensor) -> Tensor:
    """Call `module` as it is."""
    out: Tensor = module(x)
    return out


def kinds_of(part: nn.Module, default: str | None = None, rules: Rules = ()) -> dict[str, str]:
    """Find the kind of every parameter of `part` by its owner and its name.

    Normalisation layers come first, whatever they are part of; then the first of `rules` that
    fits, then attention. `default` is the kind, outside the blocks, of whatever is left; in the
    blocks that is an MLP's, or a convolution's.

    Raises:
        InputError: a parameter has no known kind, and there is no default.
    """
    kinds = {}
    for name, _ in part.named_parameters():
        owner = part.get_submodule(name.rpartition(".")[0])
        known = [*rules, ATTENTION] if default else [*rules, ATTENTION, MLP]
        kind = next((kind for pattern, kind in known if re.search(pattern, name)), default)
        if "norm" in type(owner).__name__.lower():
            kind = "ln"
        elif kind is None and isinstance(owner, nn.Conv2d):
            kind = "conv"
        if kind is None:
            raise InputError(
                f"model.name: parameter {name} of {type(part).__name__} is of no normalisation, "
                "attention, MLP or convolution; this block is not supported"
            )
        kinds[name] = kind
    return kinds


def project_qkv(
    x: Tensor, weight: Tensor, bias: Tensor | None, heads: int, queries: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Project tokens (n, t, w) to queries, keys and values, each (n, heads, tokens, w / heads).

    `weight` (3 w, w) and `bias` (3 w,) hold the three projections. Only the first `queries` tokens
    get a query; None for all. A tower that reads its class token alone uses one token of the last
    block's output. So one query, one row through the MLP and one token of output are enough; keys
    and values still come from every token. This is exact, and takes a twenty-fifth of the time with
    197 tokens.
    """
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
