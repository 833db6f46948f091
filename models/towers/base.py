"""What a family of image towers provides, and what families share."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from errors import InputError
from models.encoder import LayerGroup


class TowerFamily(ABC):
    """Image towers of one architecture, and how to split one into layer groups."""

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
    """Call `module` as it is: how a group runs whose part needs nothing special."""
    out: Tensor = module(x)
    return out


def kinds_of(part: nn.Module, default: str | None = None) -> dict[str, str]:
    """Find the kind of every parameter of `part` by its name.

    Args:
        part: what a layer group owns.
        default: the kind of whatever is neither LayerNorm nor attention; outside the blocks.

    Raises:
        InputError: a parameter has no known kind, and there is no default.
    """
    kinds = {}
    for name, _ in part.named_parameters():
        owner = part.get_submodule(name.rpartition(".")[0])
        kind = default
        if "norm" in type(owner).__name__.lower():
            kind = "ln"
        elif any("attn" in piece for piece in name.split(".")[:-1]) or name.startswith(
            ("ls_1", "ls1", "gamma_1")
        ):
            kind = "attn"  # a layer scale belongs to the branch it scales
        elif default is None and ("mlp" in name or name.startswith(("ls_2", "ls2", "gamma_2"))):
            kind = "mlp"
        if kind is None:
            raise InputError(
                f"model.name: parameter {name} of {type(part).__name__} is neither "
                "LayerNorm, attention nor MLP; this block is not supported"
            )
        kinds[name] = kind
    return kinds
