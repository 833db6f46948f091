"""Several encoders as one: their embeddings side by side, for a probe on all of them.

Each embedding is made a unit vector first, so that no encoder speaks louder than another; what is
joined then is scaled as every embedding is (`models/encoder.py`). Nothing below it is trained, so
that the embeddings come from each encoder's own cache.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from models.encoder import PIXELS, STEM, Encoder, LayerGroup
from models.head import LinearHead
from models.towers.base import run_module

ROWS = 4096  # of embeddings that are joined at a time


def scales(widths: Sequence[int]) -> list[float]:
    """Return what embeddings (n, d_i) of these widths are multiplied by when they are joined.

    An embedding has the length sqrt(d_i); k unit vectors side by side, that of their number, k.
    """
    whole = sum(widths)
    return [math.sqrt(whole / (len(widths) * width)) for width in widths]


def join_arrays(embeddings: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join encoders' embeddings (n, d_i) of the same images; returns (n, sum of d_i)."""
    widths, first = [one.shape[1] for one in embeddings], embeddings[0]
    joined = np.empty((len(first), sum(widths)), first.dtype)
    for x, width, end, factor in zip(
        embeddings, widths, itertools.accumulate(widths), scales(widths), strict=True
    ):
        for begin in range(0, len(x), ROWS):  # so that no second copy of all is made
            some = slice(begin, begin + ROWS)
            joined[some, end - width : end] = x[some].astype(np.float32) * np.float32(factor)
    return joined


def join_heads(heads: Sequence[LinearHead]) -> LinearHead:
    """Make the head over joined embeddings whose logits are the mean of the encoders' own."""
    factors, count = scales([head.weight.shape[1] for head in heads]), len(heads)
    weights = [head.weight / (count * s) for head, s in zip(heads, factors, strict=True)]
    return LinearHead(torch.cat(weights, dim=1), torch.stack([h.bias for h in heads]).mean(dim=0))


class SideBySide(nn.Module):
    """Encoders that each take their own part of the pixels (n, pixels), as `JoinedPreprocess` has.

    The outputs are joined embeddings (n, d).
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self._shapes = [encoder.shapes[PIXELS] for encoder in encoders]
        self._scales = scales([encoder.dim for encoder in encoders])

    def forward(self, pixels: Tensor) -> Tensor:
        """Run every encoder on its own part."""
        pieces = pixels.split([math.prod(shape) for shape in self._shapes], dim=1)
        runs = zip(self.encoders, pieces, self._shapes, self._scales, strict=True)
        return torch.cat(
            [
                scale * encoder(x.unflatten(1, shape).contiguous())
                for encoder, x, shape, scale in runs
            ],
            dim=1,
        )


def joined_encoder(encoders: Sequence[Encoder]) -> Encoder:
    """Make one encoder without blocks of several; it shares their parameters.

    They lie in its last layer group, as the stem computes in full precision whatever is asked for.
    """
    part = SideBySide(encoders)
    kinds = dict.fromkeys((name for name, _ in part.named_parameters()), "embed")
    groups = [
        LayerGroup(STEM, nn.Identity(), run_module, {}),
        LayerGroup("final", part, run_module, kinds),
    ]
    return Encoder(groups, (sum(math.prod(encoder.shapes[PIXELS]) for encoder in encoders),))


def parts_of(encoder: Encoder) -> list[Encoder]:
    """Return the encoders that `joined_encoder` joined."""
    part = encoder.group(len(encoder.groups) - 1).part
    assert isinstance(part, SideBySide)
    return [one for one in part.encoders if isinstance(one, Encoder)]


@dataclass(frozen=True)
class JoinedPreprocess:
    """Preprocesses an RGB image for each encoder; all their pixels are one vector (pixels,).

    A large photo that was read for the largest of them (`data.decoding.least_side`) gives an
    encoder of smaller images pixels that differ a little from those of one read for it alone.
    """

    each: tuple[Callable[[Image.Image], Tensor], ...]

    def __call__(self, image: Image.Image) -> Tensor:
        """Preprocess an image for all encoders."""
        return torch.cat([preprocess(image).flatten() for preprocess in self.each])
