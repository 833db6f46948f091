"""In half precision frozen matrices are rounded once, and nothing else differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models import fit as fitting
from models.config import PrecisionName
from models.encoder import LayerGroup
from models.fit import Fit
from models.flops import training_memory
from models.frozen_weights import in_products
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.fits import assert_same, weights
from tests.models.test_on_a_device import STEPPED, encoder_of, fit_of
from tests.models.tiny_towers import DIM, TOWERS, WIDTH

HALVES: tuple[PrecisionName, ...] = ("bfloat16", "float16")


class Launches(TorchDispatchMode):
    """Counts the operations of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.counts[function._schema.name] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def rounded_each_time() -> Iterator[None]:
    with mock.patch.object(fitting, "round_frozen"):
        yield


def trained(fit: Fit) -> list[float]:
    losses = [loss for _ in range(3) for loss in fit.step().tolist()]
    found = fit.evaluate()
    return [*losses, found.val_loss, found.score]


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    ("tower", "recipe"),
    [("native", recipe) for recipe in STEPPED] + [(tower, "LayerNorm") for tower in TOWERS],
)
def test_losses_and_weights_are_the_same_to_the_bit(
    tower: str, recipe: str, precision: PrecisionName
) -> None:
    encoder = split_tower(TOWERS[tower]())
    with rounded_each_time():
        expected = fit_of(encoder, "cpu", STEPPED[recipe], precision)
    found = fit_of(encoder, "cpu", STEPPED[recipe], precision)
    assert trained(found) == trained(expected)
    rounded, present = weights(expected), weights(found)
    assert_same(present, {name: weight.to(present[name]) for name, weight in rounded.items()})
    assert_same(dict(found.weights()), dict(expected.weights()))


def test_a_step_of_layer_norms_casts_no_frozen_matrix() -> None:
    def casts(fit: Fit) -> int:
        fit.step()
        with Launches() as found:
            fit.step()
        return found.counts["aten::_to_copy"]

    fit = fit_of(encoder_of("native"), "cpu", STEPPED["LayerNorm"], "bfloat16")
    with rounded_each_time():
        before = fit_of(encoder_of("native"), "cpu", STEPPED["LayerNorm"], "bfloat16")
    rounded = [
        parameter
        for group in fit.model.groups
        if isinstance(group, LayerGroup)
        for _, parameter in in_products(group)
    ]
    assert casts(before) - casts(fit) >= len(rounded) == 16
    assert {parameter.dtype for parameter in rounded} == {torch.bfloat16}


def test_what_is_trained_and_what_is_added_stay_whole() -> None:
    encoder = encoder_of("native")
    fit = fit_of(encoder, "cpu", STEPPED["LayerNorm"], "bfloat16")
    assert {weight.dtype for weight in fit.weights().values()} == {torch.float32}
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}  # others copy from it
    in_full = fit_of(encoder, "cpu", STEPPED["LayerNorm"])
    assert {p.dtype for p in in_full.model.parameters()} == {torch.float32}
    whole = fit_of(encoder, "cpu", STEPPED["full"] | {"kinds": "ln"}, "bfloat16")
    stem = {p.dtype for p in whole.model.groups[0].parameters()}
    assert stem == {torch.float32}  # it runs in full precision


def test_the_memory_that_is_said_is_half_of_what_is_frozen() -> None:
    encoder = encoder_of("native")
    selection = select(Recipe(**STEPPED["LayerNorm"]), encoder)
    said = [
        training_memory(encoder, selection, selection.boundary, precision)[0]
        for precision in ("float32", "bfloat16")
    ]
    fit = fit_of(encoder, "cpu", STEPPED["LayerNorm"], "bfloat16")
    held = sum(p.nbytes for group in fit.model.groups for p in group.parameters())
    whole = sum(4 * p.numel() for group in fit.model.groups for p in group.parameters())
    copied = 2 * DIM * WIDTH  # the projection, which is no module's
    assert said[0] - said[1] == whole - held - copied > whole / 3
