"""Clipping as torch does it, and norms as a look at `.grad` would find them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.encoder import Encoder
from models.gradients import GradientNorms
from models.towers import split_tower
from tests.models.fits import probe, tuning
from tests.models.tiny_towers import native

PLACES = {"a": ("block 0", "ln"), "b": ("block 0", "mlp"), "c": ("block 1", "mlp")}


def parameters(scale: float, seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in (("a", (3,)), ("b", (4, 2)), ("c", (2, 2, 2))):
        made[name] = nn.Parameter(torch.zeros(shape))
        made[name].grad = scale * torch.randn(shape, generator=generator)
    return made


def grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3))
def test_clipping_is_torchs(scale: float, limit: float) -> None:
    ours, theirs = parameters(scale), parameters(scale)
    GradientNorms(ours, PLACES, limit).clip()
    nn.utils.clip_grad_norm_(theirs.values(), limit)
    for name, parameter in ours.items():
        torch.testing.assert_close(grad(parameter), grad(theirs[name]))


def norm(*gradients: Tensor) -> float:
    return math.sqrt(sum(g.double().square().sum().item() for g in gradients))


def test_norms_are_root_mean_squares_before_clipping() -> None:
    made = parameters(5.0)
    norms = GradientNorms(made, PLACES, 1.0)
    squares = dict.fromkeys(PLACES.values(), 0.0)
    for seed in range(4):
        for name, parameter in parameters(5.0 + seed, seed).items():
            made[name].grad = parameter.grad
            squares[PLACES[name]] += norm(grad(parameter)) ** 2 / 4
        norms.clip()
        assert norm(*(grad(p) for p in made.values())) == pytest.approx(1, rel=1e-4)
    found = norms.by_place()
    assert list(found) == ["block 0", "block 1"]
    for (group, kind), square in squares.items():
        assert found[group][kind] == pytest.approx(square**0.5, rel=1e-5)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_steps_that_are_not_finite_are_left_out(poison: float) -> None:
    made = parameters(2.0)
    norms = GradientNorms(made, PLACES, 1e9)
    norms.clip()
    expected = norms.by_place()
    grad(made["b"])[0, 0] = poison
    norms.clip()
    assert norms.by_place() == expected


def test_before_the_first_step_there_is_nothing() -> None:
    norms = GradientNorms(parameters(1.0), PLACES, 1.0)
    assert norms.by_place() == {"block 0": {"ln": 0, "mlp": 0}, "block 1": {"mlp": 0}}


def test_a_parameter_without_gradient_is_a_mistake() -> None:
    made = parameters(1.0)
    made["c"].grad = None
    with pytest.raises(RuntimeError, match="no gradient"):
        GradientNorms(made, PLACES, 1.0).clip()


def test_a_fit_reports_the_norms_of_its_steps() -> None:
    """By hand: hooks see each gradient as it comes, before anything clips it."""
    encoder: Encoder = split_tower(native())
    fit = tuning(encoder, kinds="ln+attn+mlp")
    squares: dict[tuple[str, str], float] = {}
    steps = 6

    def watch(place: tuple[str, str], parameter: nn.Parameter) -> None:
        def add(gradient: Tensor) -> None:
            squares[place] = squares.get(place, 0.0) + norm(gradient) ** 2 / steps

        parameter.register_hook(add)

    first = encoder.index("block 1")
    for i, group in enumerate(fit.model.groups, start=first):
        kinds = {name: kind for name, kind, _ in encoder.group(i).parameters_by_kind()}
        for name, parameter in group.named_parameters():
            if parameter.requires_grad:
                watch((encoder.group(i).name, kinds[name]), parameter)
    for _ in range(steps):
        fit.step()
    found = fit.gradient_norms()
    assert {(group, kind) for group, kinds in found.items() for kind in kinds} == set(squares)
    assert set(found) == {"block 1", "block 2", "final"}
    for (group, kind), square in squares.items():
        assert found[group][kind] == pytest.approx(square**0.5, rel=1e-4), (group, kind)
    assert max(squares.values()) > 0


def test_probes_have_no_norms(encoder: Encoder) -> None:
    fit = probe(encoder)
    fit.train_until(50)
    assert fit.gradient_norms() == {}
