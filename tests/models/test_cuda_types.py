"""The types that autocast chooses on a GPU, without one: tensors have no values, and say cuda.

CUDA's rules of autocast differ from the CPU's. Forward passes run so, without gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from models.classifier import Classifier
from models.config import PrecisionName
from models.device import Device
from models.encoder import PIXELS, LayerGroup
from models.flops import unfused
from models.frozen_weights import in_products, round_frozen
from models.head import HeadBank
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.tiny_towers import TOWERS

PRECISIONS: tuple[PrecisionName, ...] = ("float32", "bfloat16", "float16")
ASKING = {"native, sequence first", "relative positions, average", "Swin"}
"""Towers with an operation that asks the driver, even here."""
SILENT = [name for name in TOWERS if name not in ASKING]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch apply CUDA's rules, which it turns off where there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)


class Indexing(TorchFunctionMode):
    """Takes parts of tensors by operations: torch's own way asks the driver for the device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is not Tensor.__getitem__:
            return function(*args, **(kwargs or {}))
        x, keys = args
        keys = keys if isinstance(keys, tuple) else (keys,)
        place = 0
        for i, key in enumerate(keys):
            if key is Ellipsis:
                place = x.ndim - (len(keys) - i - 1)
            elif key is None:
                x, place = x.unsqueeze(place), place + 1
            elif isinstance(key, slice):
                x = torch.ops.aten.slice(x, place, key.start, key.stop, key.step or 1)
                place += 1
            elif isinstance(key, int):
                x = x.select(place, key)
            else:
                x, place = torch.ops.aten.index(x, [None] * place + [key]), place + 1
        return x


@contextmanager
def without_values(module: nn.Module) -> Iterator[None]:
    """Move a module, without gradients, to a GPU that is not there; `to` refuses that."""
    with FakeTensorMode(allow_non_fake_inputs=True), Indexing(), torch.no_grad(), unfused():
        for part in module.modules():
            for name, weight in part._parameters.items():
                if weight is not None:
                    there = torch.empty(weight.shape, dtype=weight.dtype, device="cuda")
                    part._parameters[name] = nn.Parameter(there, requires_grad=False)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    there = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
                    part._buffers[name] = there
        yield


def products(module: nn.Module) -> set[torch.dtype]:
    """Note the types of what linear layers return, from here on."""
    found: set[torch.dtype] = set()

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        found.add(output.dtype)

    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_hook(note)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tower", SILENT)
def test_what_crosses_a_boundary_is_in_full_precision(
    tower: str, precision: PrecisionName, cuda: None
) -> None:
    encoder = split_tower(TOWERS[tower]())
    found = products(encoder)
    with without_values(encoder), Device("cuda", precision).autocast():
        pixels = torch.empty(2, *encoder.shapes[PIXELS], device="cuda")
        crossed = encoder.features(pixels, encoder.boundaries)
    assert {x.dtype for x in crossed.values()} == {torch.float32}
    assert {x.device.type for x in crossed.values()} == {"cuda"}
    assert {b: tuple(x.shape[1:]) for b, x in crossed.items()} == encoder.shapes
    assert found <= {getattr(torch, precision)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kinds", ["ln", "ln+attn+mlp"])
@pytest.mark.parametrize("tower", SILENT)
def test_a_trials_stream_is_in_full_precision_and_its_products_are_not(
    tower: str, kinds: str, precision: PrecisionName, cuda: None
) -> None:
    encoder = split_tower(TOWERS[tower]())
    selection = select(Recipe(blocks="2-1", kinds=kinds), encoder)
    heads = HeadBank(2, encoder.dim, 3)
    model = Classifier(encoder, selection, selection.boundary, heads)
    half = getattr(torch, precision)
    found, streams = products(model), []
    for group in model.groups:
        group.register_forward_hook(lambda _, __, output: streams.append(output.dtype))
    round_frozen(model.groups, half)
    for group in model.groups:
        assert isinstance(group, LayerGroup)
        for _, weight in in_products(group):
            assert weight.dtype == (torch.float32 if weight.requires_grad else half)
    device = Device("cuda", precision)
    with without_values(model):
        assert device.product_type() == half
        x = torch.empty(2, *encoder.shapes[selection.boundary], device="cuda")
        with device.autocast():
            embeddings = model.embed(x)
        logits = model.head(embeddings)
    assert streams == [torch.float32] * len(model.groups)
    assert logits.dtype == torch.float32
    assert logits.shape == (2, 2, 3)
    assert found <= {half}
