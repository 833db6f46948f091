"""The lean QuickGELU is open_clip's, for less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm.layers
import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from models.towers import split_tower
from models.towers.quick_gelu import LeanQuickGELU, make_lean
from tests.models.devices import Simulated
from tests.models.tiny_towers import native
from tests.models.tiny_towers import timm as timm_vit

OWN, LEAN = QuickGELU(), LeanQuickGELU()
X = torch.cat(
    [
        torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        torch.tensor([-1e4, -700.0, -50.0, -1e-30, 0.0, 1e-30, 50.0, 1e4], dtype=torch.float64),
    ]
)


def both(run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result and the gradient of the sum of its squares."""
    x = x.detach().requires_grad_()
    found = run(x)
    found.square().sum().backward()
    assert x.grad is not None
    return found.detach(), x.grad


def test_its_gradient_is_that_of_what_it_computes() -> None:
    x = X[:20].clone().requires_grad_()
    assert torch.autograd.gradcheck(LEAN, (x,))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-14),
        (torch.float32, 1e-6),
        (torch.bfloat16, 2e-2),
        (torch.float16, 3e-3),
    ],
)
def test_it_is_open_clips(dtype: torch.dtype, tolerance: float) -> None:
    x = X[X.abs() < 100].to(dtype)
    for found, expected in zip(both(LEAN, x), both(OWN, x), strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_large_numbers_stay_numbers() -> None:
    for found, expected in zip(both(LEAN, X), both(OWN, X), strict=True):
        torch.testing.assert_close(found, expected)


def test_without_gradients_it_is_open_clips_to_the_bit() -> None:
    x = X.float()
    assert torch.equal(LEAN(x), OWN(x))
    with torch.no_grad():
        assert torch.equal(LEAN(x.requires_grad_()), OWN(x))


def test_it_takes_a_third_of_the_operations_backward_and_half_the_memory() -> None:
    def cost(module: nn.Module) -> tuple[int, int, int]:
        with Simulated() as device:
            meter = device.meter
            leaf = X.float().to(device.name).requires_grad_()
            x = 1 * leaf  # as a layer's output: nobody else holds on to it
            meter.restart()
            found = module(x)
            forward = sum(meter.launches.values())
            del x
            held = meter.live - leaf.nbytes - found.nbytes
            gradient = torch.ones_like(found)
            meter.restart()
            found.backward(gradient)
            return forward, sum(meter.launches.values()) - 1, held

    (forward, backward, memory), (own_forward, own_backward, own_memory) = cost(LEAN), cost(OWN)
    assert forward <= own_forward
    assert 3 * backward <= own_backward
    assert 2 * memory <= own_memory


def test_towers_get_it_in_the_place_of_their_own() -> None:
    def activations(tower: nn.Module) -> list[str]:
        found = [type(m).__name__ for m in tower.modules() if "GELU" in type(m).__name__]
        assert found
        return found

    quick = split_tower(native(act_layer=QuickGELU))
    assert set(activations(quick)) == {"LeanQuickGELU"}
    timms = split_tower(timm_vit(act_layer=timm.layers.QuickGELU))
    assert set(activations(timms)) == {"LeanQuickGELU"}
    tower = native()
    make_lean(tower)
    assert set(activations(tower)) == {"GELU"}
