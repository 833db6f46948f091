"""What training a suffix costs, in floating-point operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.encoder import PIXELS, Encoder
from models.recipe import Recipe


def group_flops(encoder: Encoder) -> tuple[int, ...]:
    """Operations of every layer group's forward pass on one image.

    Counted on a blank image, not taken from a formula: matrix products, convolutions, attention.
    """
    x, counts = torch.zeros(1, *encoder.shapes[PIXELS]), []
    with torch.no_grad(), unfused():
        for group in encoder.groups:
            with FlopCounterMode(display=False) as counter:
                x = group(x)
            counts.append(int(counter.get_total_flops()))
    return tuple(counts)


def sample_flops(encoder: Encoder, forward: tuple[int, ...], recipe: Recipe, boundary: str) -> int:
    """Operations that a fit spends on one training sample, fed from `boundary`; the head's apart.

    Everything above the boundary runs forward. From the first trained group up, gradients of
    inputs cost as much again, and those of weights as much again in the share of a group's
    matrices that is trained. (The first trained group's own input needs no gradient where its
    first layers are not trained; that is not counted off.)

    Args:
        forward: as of `group_flops`.
    """
    first = encoder.index(boundary)
    trained = recipe.trained_parameters(encoder)
    lowest = min((i for i, _ in trained), default=len(forward))
    total = sum(forward[first:])
    for i in range(lowest, len(forward)):
        matrices = {n: p.numel() for n, _, p in encoder.group(i).parameters_by_kind() if p.ndim > 1}
        share = sum(size for name, size in matrices.items() if (i, name) in trained)
        total += int(forward[i] * (1 + share / max(1, sum(matrices.values()))))
    return total


@contextmanager
def unfused() -> Iterator[None]:
    """Without the fused attention of layers that need no gradient: torch does not count it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
