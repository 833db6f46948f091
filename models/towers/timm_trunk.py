"""What families of timm's trunks share, inside open_clip's adapter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from models.encoder import Run, embedding
from models.towers.base import Rules, part_of

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


def final_of(tower: Any, last: str, names: Iterable[str] = ("head",)) -> tuple[nn.Module, Run]:
    """Return what lies above the blocks, and how it runs: `last`, the trunk's head, the adapter's.

    `names` are the children of the trunk that its `forward_head` uses.
    """
    trunk = part_of(tower.trunk, only={last, *names})
    final = nn.ModuleDict({"trunk": trunk, "head": tower.head})
    return final, partial(_run_final, last=last)


def _run_final(final: nn.Module, x: Tensor, last: str) -> Tensor:
    trunk, head = final["trunk"], final["head"]  # type: ignore[index]
    return embedding(head(trunk.forward_head(getattr(trunk, last)(x))))
