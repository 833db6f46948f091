"""Modules pickled apart from their weights, so that all processes of a node share those.

Ray hands numpy arrays out of its object store without a copy, and tensors with one. So weights
travel as arrays beside a module without any, and come back as tensors over shared memory. Nobody
can write to that: what is trained is a copy (`Encoder.suffix`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Weights = list[tuple[list[str], NDArray[Any]]]
"""Every tensor once, with all names that the module has for it."""


def split_weights(module: nn.Module) -> tuple[nn.Module, Weights]:
    """Split a frozen module on the CPU into a copy without weights, and the weights."""
    tensors: dict[int, tuple[list[str], Tensor]] = {}
    for name, tensor in _tensors(module):
        tensors.setdefault(id(tensor), ([], tensor))[0].append(name)
    # Where deepcopy would copy a tensor it finds another already made: one without storage.
    empty = {
        key: _like(tensor, torch.empty_like(tensor, device="meta"))
        for key, (_, tensor) in tensors.items()
    }
    skeleton = copy.deepcopy(module, empty)
    return skeleton, [(names, tensor.detach().numpy()) for names, tensor in tensors.values()]


def join_weights(skeleton: nn.Module, weights: Weights) -> nn.Module:
    """Give `skeleton` its weights, over their memory; returns it."""
    for names, array in weights:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays in Ray's store are read-only, on purpose
            tensor = torch.from_numpy(np.asarray(array))
        places = [name.rpartition(".") for name in names]
        owners = [(skeleton.get_submodule(path), leaf) for path, _, leaf in places]
        tensor = _like(getattr(*owners[0]), tensor)
        for owner, leaf in owners:
            setattr(owner, leaf, tensor)
    return skeleton


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _like(one: Tensor, other: Tensor) -> Tensor:
    """`other`, as a parameter where `one` is one."""
    return nn.Parameter(other, requires_grad=False) if isinstance(one, nn.Parameter) else other
