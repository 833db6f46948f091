"""Low-rank adaptation: a frozen matrix plus the product of two small trained ones."""

from __future__ import annotations

import zlib
from functools import cache

import torch
from torch import Tensor, nn

FACTORS = ("a", "b")


class LowRank(nn.Module):
    """Maps a matrix W to W + alpha / rank B A (LoRA: Hu et al. 2021, arXiv:2106.09685).

    A convolution's kernel (outputs, inputs, height, width) is a matrix with a row for each output.
    A is drawn from `seed`, uniform up to 1 / sqrt(inputs) as in the authors' code, and B is zero:
    the first forward pass is the frozen one's. A rank above the matrix's own has no use: A and B
    then have the matrix's.
    """

    def __init__(self, matrix: Tensor, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        outputs, inputs = _sides(matrix)
        inner, generator = min(rank, outputs, inputs), torch.Generator().manual_seed(seed)
        a = (2 * torch.rand(inner, inputs, generator=generator) - 1) / inputs**0.5
        self.a = nn.Parameter(a.to(matrix), requires_grad=False)
        self.b = nn.Parameter(matrix.new_zeros(outputs, inner), requires_grad=False)
        self._scale = alpha / rank

    def forward(self, matrix: Tensor) -> Tensor:
        """Add the product, in the weights' own precision: half of it would lose small steps."""
        with torch.autocast(matrix.device.type, enabled=False):
            flat = torch.addmm(matrix.flatten(1), self.b, self.a, alpha=self._scale)
            return flat.view_as(matrix)


def adapt(part: nn.Module, name: str, rank: int, alpha: float, seed: str) -> list[nn.Parameter]:
    """Make the matrix `name` of `part` a `LowRank` one; returns A and B.

    A fused matrix of queries, keys and values is one matrix here, with one A: so nothing has to
    know how a tower stores them.
    """
    path, _, own = name.rpartition(".")
    owner = part.get_submodule(path)
    matrix = owner._parameters.pop(own)
    assert matrix is not None
    low_rank = LowRank(matrix, rank, alpha, zlib.crc32(seed.encode()))
    owner.register_parameter(f"{own}_frozen", matrix)
    owner.add_module(f"{own}_low_rank", low_rank)
    kind: type = type(owner)
    owner.__class__ = _with_low_rank(kind, own)
    return [low_rank.a, low_rank.b]


@cache
def _with_low_rank(kind: type, name: str) -> type[nn.Module]:
    """Make a class of modules of a kind whose matrix `name` is computed by its `LowRank`.

    torch's `register_parametrization` does the same, by a class for each module that refers to it:
    the memory of a fit would wait on the device for the garbage collector.
    """

    def matrix(module: nn.Module) -> Tensor:
        found: Tensor = getattr(module, f"{name}_low_rank")(getattr(module, f"{name}_frozen"))
        return found

    return type(f"LowRank{kind.__name__}", (kind,), {name: property(matrix)})


def factor_size(matrix: Tensor, rank: int) -> int:
    """Count the numbers in A and B."""
    outputs, inputs = _sides(matrix)
    return min(rank, outputs, inputs) * (outputs + inputs)


def _sides(matrix: Tensor) -> tuple[int, int]:
    return len(matrix), matrix[0].numel()
