"""What families of timm's trunks share, inside open_clip's adapter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from models.encoder import LayerGroup, Run, embedding
from models.towers.base import Rules, TowerFamily, chain, part_of, run_module


class TimmFamily(TowerFamily):
    """Towers of open_clip's adapter around one class of timm's.

    Attributes:
        trunk: that class.
    """

    trunk: type[nn.Module]

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is open_clip's adapter around a `trunk`."""
        return isinstance(tower, TimmModel) and isinstance(tower.trunk, self.trunk)


class StagedFamily(TimmFamily):
    """Towers whose trunk is a stem and stages of blocks; features are maps.

    Attributes:
        stem, stages, last: the trunk's children: below, in and above its blocks.
        rules: kinds of parameters by their names (`models.towers.base.kinds_of`).
    """

    stem = "stem"
    stages = "stages"
    last: str
    rules: Rules

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        stem, stages = getattr(tower.trunk, self.stem), getattr(tower.trunk, self.stages)
        blocks, final = staged_blocks(stages), final_of(tower, self.last)
        return chain((stem, run_module), blocks, final, run_module, rules=self.rules)


POOL: Rules = ((r"^head\.pool\.proj\.", "proj"), (r"^head\.pool\.", "attn"))
"""The kinds in an attention pool of the adapter: `abs_attn`, `rot_attn`."""


def staged_blocks(stages: Iterable[Any]) -> Iterator[nn.Module]:
    """Yield the `blocks` of every stage, the first one behind whatever else the stage has.

    That is its downsampling, and FastViT's position embedding.
    """
    for stage in stages:
        first, *others = stage.blocks
        below = {name: child for name, child in stage.named_children() if name != "blocks"}
        yield nn.Sequential(OrderedDict(**below, block=first))
        yield from others


def final_of(
    tower: Any, last: str | None = None, names: Iterable[str] = ("head",)
) -> tuple[nn.Module, Run]:
    """Return what lies above the blocks, and how it runs: `last`, the trunk's head, the adapter's.

    `names` are the children of the trunk that its `forward_head` uses.
    """
    _add_projection(tower)
    trunk = part_of(tower.trunk, only={*names, *([last] if last else [])})
    final = nn.ModuleDict({"trunk": trunk, "head": tower.head})
    return final, partial(_run_final, last=last)


def _add_projection(tower: Any) -> None:
    """Give a tower that ends without a projection, as SigLIP's do, one that is the identity.

    It is what `timm_proj: linear` builds, so that `kinds: proj` can train it, and open_clip load
    it.
    """
    heads = (tower.head, tower.trunk.get_classifier())
    if not any(list(head.children()) or list(head.parameters()) for head in heads):
        proj = nn.Linear(tower.trunk.num_features, tower.trunk.num_features, bias=False)
        like = next(tower.trunk.parameters())
        proj.to(like).weight.data.copy_(torch.eye(len(proj.weight)))
        tower.head.add_module("proj", proj)


def _run_final(final: nn.Module, x: Tensor, last: str | None) -> Tensor:
    trunk, head = final["trunk"], final["head"]  # type: ignore[index]
    return embedding(head(trunk.forward_head(getattr(trunk, last)(x) if last else x)))
