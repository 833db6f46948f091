"""What training a suffix costs, in floating-point operations and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from models.config import PrecisionName
from models.encoder import PIXELS, Encoder
from models.precision import Precision
from models.recipe import Recipe

STATE = 5  # floats to a trained weight: its gradient, two moments, its average, its best value


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


def trained_count(encoder: Encoder, recipe: Recipe) -> int:
    """Numbers in the encoder that the recipe trains."""
    trained = recipe.trained_parameters(encoder)
    return sum(encoder.group(i).get_parameter(name).numel() for i, name in trained)


def training_memory(
    encoder: Encoder, recipe: Recipe, boundary: str, precision: PrecisionName
) -> tuple[int, int]:
    """Bytes that a fit of the recipe takes on its device, fed from `boundary`.

    The first are of weights, of what training keeps beside those that it trains and, in half
    precision, of their copies in a step; the second, times the batch's size, of what a forward
    pass saves for the backward pass. That is counted on blank images, as are operations. The
    heads, a device's context and the work space of its kernels come on top.
    """
    suffix = encoder.groups[encoder.index(boundary) :]
    weights = sum(parameter.numel() for parameter in suffix.parameters())
    numbers = trained_count(encoder, recipe)
    one, two = (_saved_bytes(encoder, recipe, precision, examples) for examples in (1, 2))
    return 4 * (weights + STATE * numbers) + 2 * one - two, two - one


def _saved_bytes(encoder: Encoder, recipe: Recipe, precision: PrecisionName, examples: int) -> int:
    """Bytes that a forward pass over so many examples saves for the backward pass."""
    trained, boundary = recipe.trained_parameters(encoder), recipe.boundary(encoder)
    own = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:  # views of one storage count once
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.zeros(examples, *encoder.shapes[boundary])
    # The graph keeps what is saved alive, or an address might come up twice.
    with saved_tensors_hooks(note, lambda x: x), Precision("cpu", precision).autocast():
        for i in range(encoder.index(boundary), len(encoder.groups)):
            group = encoder.group(i)
            weights = {
                name: parameter.detach().requires_grad_((i, name) in trained)
                for name, parameter in group.named_parameters()
            }
            x = functional_call(group, weights, x)
    return sum(saved.values())


@contextmanager
def unfused() -> Iterator[None]:
    """Without the fused attention of layers that need no gradient: torch does not count it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
