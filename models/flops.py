"""What training a suffix costs, in floating-point operations and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from models.config import PrecisionName
from models.device import Device
from models.encoder import PIXELS, Encoder, LayerGroup
from models.frozen_weights import in_products
from models.selection import Selection

STATE = 5  # floats for each trained weight: its gradient, two moments, its average, its best value


def group_flops(encoder: Encoder) -> tuple[int, ...]:
    """Count the operations of every layer group's forward pass on one image, by running it.

    Matrix products, convolutions and attention count.
    """
    x, counts = torch.zeros(1, *encoder.shapes[PIXELS]), []
    with torch.no_grad(), unfused():
        for group in encoder.groups:
            with FlopCounterMode(display=False) as counter:
                x = group(x)
            counts.append(int(counter.get_total_flops()))
    return tuple(counts)


def sample_flops(
    encoder: Encoder, forward: tuple[int, ...], selection: Selection, boundary: str
) -> int:
    """Count the operations that a fit, fed from `boundary`, spends on one training sample.

    Everything above the boundary runs `forward`, as `group_flops` counts. From the first trained
    group up, gradients of inputs cost as much again, and those of weights as much again in the
    share of a group's matrices that is trained. The head is left out. (The first trained group's
    own input needs no gradient where its first layers are not trained; that is not counted off.)
    """
    trained = {(p.group, p.name) for p in selection.parameters}
    total = sum(forward[encoder.index(boundary) :])
    for i in range(encoder.index(selection.boundary), len(forward)):
        matrices = {n: p.numel() for n, _, p in encoder.group(i).parameters_by_kind() if p.ndim > 1}
        share = sum(size for name, size in matrices.items() if (i, name) in trained)
        total += int(forward[i] * (1 + share / max(1, sum(matrices.values()))))
    return total


def training_memory(
    encoder: Encoder, selection: Selection, boundary: str, precision: PrecisionName
) -> tuple[int, int]:
    """Count the bytes that a fit takes on its device, fed from `boundary`.

    The heads, a device's context and the work space of its kernels come on top.

    Returns:
        The bytes of the weights, of those that LoRA merges in a step, of what training keeps beside
        those that it trains and, in half precision, of copies of those in a step; and the bytes for
        each example of a batch that a forward pass saves for the backward pass, counted on blank
        images as operations are.
    """
    suffix = encoder.groups[encoder.index(boundary) :]
    weights = sum(parameter.numel() for parameter in suffix.parameters())
    for p in selection.parameters:
        weights += encoder.group(p.group).get_parameter(p.name).numel() if p.low_rank else 0
    for i in range(encoder.index(boundary), len(encoder.groups)):
        rounded = _rounded(encoder.group(i), i, selection, precision)
        weights -= sum(parameter.numel() for parameter in rounded.values()) // 2
    kept = STATE + (selection.recipe.pull_to_start > 0)  # and where each weight began
    one, two = (_saved_bytes(encoder, selection, precision, examples) for examples in (1, 2))
    return 4 * (weights + kept * selection.count) + 2 * one - two, two - one


def _saved_bytes(
    encoder: Encoder, selection: Selection, precision: PrecisionName, examples: int
) -> int:
    """Bytes that a forward pass over `examples` blank examples saves for the backward pass."""
    trained = {(p.group, p.name) for p in selection.parameters}
    own = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:  # views of one storage count once
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, halves = torch.zeros(examples, *encoder.shapes[selection.boundary]), []
    # The graph keeps what is saved alive, or an address might come up twice.
    with saved_tensors_hooks(note, lambda x: x), Device("cpu", precision).autocast():
        for i in range(encoder.index(selection.boundary), len(encoder.groups)):
            group = encoder.group(i)
            weights = {
                name: parameter.detach().requires_grad_((i, name) in trained)
                for name, parameter in group.named_parameters()
            }
            for name, parameter in _rounded(group, i, selection, precision).items():
                weights[name] = parameter.detach().to(getattr(torch, precision))
                own.add(weights[name].untyped_storage().data_ptr())
                halves.append(weights[name])  # alive, as its address is one of those
            x = functional_call(group, weights, x)
    return sum(saved.values())


def _rounded(
    group: LayerGroup, index: int, selection: Selection, precision: PrecisionName
) -> dict[str, nn.Parameter]:
    """Return what a fit keeps of a group in half precision alone (`round_frozen`), by name."""
    trained = {p.name for p in selection.parameters if p.group == index}
    half = precision != "float32"
    return {n: p for n, p in in_products(group) if half and n not in trained}


@contextmanager
def unfused() -> Iterator[None]:
    """Turn off the fused attention of layers that need no gradient: torch does not count it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
