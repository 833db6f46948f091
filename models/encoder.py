"""An image tower as one ordered list of layer groups.

    stem, block 0 … block L-1, final (norm, pooling, projection)

Only this list knows what a block is: freezing, layer-wise learning-rate decay, the boundary that a
trial starts from and the counting of parameters follow from it. `models/towers/` makes the list.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Run = Callable[[nn.Module, Tensor], Tensor]

STEM = "stem"
PIXELS, FINAL, HEAD = "pixels", "final", "head"  # boundaries; the others are "block i"


class LayerGroup(nn.Module):
    """One link of the chain: a part of the tower and the way to run it.

    Args:
        name: "stem", "block 3", "final".
        part: the modules and parameters this group owns.
        run: what the tower does with them, `run(part, x) -> x`.
        kinds: the kind of every parameter of `part`, by its name in it.
        no_decay: the matrices of `part` without weight decay, by the tower's `no_weight_decay`.
    """

    def __init__(
        self,
        name: str,
        part: nn.Module,
        run: Run,
        kinds: dict[str, str],
        no_decay: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.part = part
        self.kinds = kinds
        self.no_decay = frozenset(no_decay)
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        """Map features at the boundary below the group to those at the one above it.

        What crosses a boundary is in full precision, whatever products are computed in: all blocks
        add to it. The stem computes so, too.
        """
        kind = x.device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind):
            return self._run(self.part, x)
        with torch.autocast(kind, enabled=False) if self.name == STEM else nullcontext():
            return self._run(self.part, x).float()

    def parameters_by_kind(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Yield (name, kind, parameter), names as in `named_parameters`."""
        for name, parameter in self.named_parameters():
            yield name, self.kinds[name.removeprefix("part.")], parameter

    def uses_weight_decay(self, name: str) -> bool:
        """Say whether weight decay applies to a parameter, named as in `named_parameters`.

        As in open_clip and timm, it applies to matrices and the patch convolution, and not to
        norms, biases, scales, tokens and position embeddings.
        """
        matrix = self.get_parameter(name).ndim >= 2
        return matrix and name.removeprefix("part.") not in self.no_decay


class Encoder(nn.Module):
    """Layer groups from pixels to *the embedding*.

    The embedding is the tower's projected output, L2-normalised and scaled by sqrt(d): its
    entries have unit mean square, so that learning rates and weight decays of a linear head mean
    the same for every encoder. Probes, zero-shot heads and interpolation all use this one.

    Args:
        groups: the chain.
        pixels: the shape of an image's: (3, height, width), or (pixels,) of joined encoders
            (`models/joined.py`), which take those of all, one after the other.

    Attributes:
        depth: the number of blocks, L.
        boundaries: "pixels", "block 0" … "block L-1", "final" are the inputs of the groups in
            order; "head" is the embedding itself.
        shapes: the shape of one image's features at each boundary.
        dim: width of the embedding, d.
    """

    def __init__(self, groups: Sequence[LayerGroup], pixels: tuple[int, ...]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.eval().requires_grad_(False)
        self.depth = len(groups) - 2
        self.boundaries = (PIXELS, *(f"block {i}" for i in range(self.depth)), FINAL, HEAD)
        crossed = self.features(torch.zeros(1, *pixels), self.boundaries)
        self.shapes = {boundary: tuple(x.shape[1:]) for boundary, x in crossed.items()}
        self.dim = self.shapes[HEAD][0]

    def group(self, index: int) -> LayerGroup:
        """The group above boundary `index`."""
        group = self.groups[index]
        assert isinstance(group, LayerGroup)
        return group

    def index(self, boundary: str) -> int:
        """The position of `boundary`; raises ValueError if the encoder has no such boundary."""
        return self.boundaries.index(boundary)

    def forward(self, x: Tensor) -> Tensor:
        """Run pixels (n, …) through all groups to embeddings (n, d)."""
        for group in self.groups:
            x = group(x)
        return x

    @torch.no_grad()
    def features(self, pixels: Tensor, boundaries: Iterable[str]) -> dict[str, Tensor]:
        """Collect the features at `boundaries` in one pass over pixels (n, …)."""
        wanted = sorted({self.index(boundary) for boundary in boundaries})
        x, crossed = pixels, {}
        for i in range(wanted[-1] + 1):
            if i in wanted:
                crossed[self.boundaries[i]] = x
            if i < wanted[-1]:
                x = self.groups[i](x)
        return crossed

    def suffix(self, boundary: str) -> nn.ModuleList:
        """Copy the groups above `boundary`, to be trained."""
        return nn.ModuleList(copy.deepcopy(group) for group in self.groups[self.index(boundary) :])


def embedding(projected: Tensor) -> Tensor:
    """Scale projected outputs (n, d) to embeddings, of length sqrt(d)."""
    return F.normalize(projected, dim=-1) * math.sqrt(projected.shape[-1])
