"""LoRA in the suffix: exact at the start, merged at the end, and nothing else moves."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from models.classifier import build_classifier
from models.device import Device
from models.encoder import Encoder
from models.exported import exported_weights
from models.fit import Fit
from models.lora import LowRank
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.fits import CLASSES, assert_same, images, tuning, weights
from tests.models.tiny_towers import TOWERS, at, fastvit, native, swin, timm

LORA = {"lora_rank": 2, "lora_alpha": 4.0}
ALL = {"kinds": "ln+attn+mlp+conv", **LORA}


@pytest.mark.parametrize("name", TOWERS)
def test_the_first_forward_pass_is_the_frozen_encoders(name: str) -> None:
    encoder = split_tower(TOWERS[name]())
    fit = tuning(encoder, dtype=torch.float64, **ALL)
    examples = at(encoder, "block 1", *images(15, 2))
    x, _ = examples.batch(examples.rows, torch.device("cpu"), torch.float64)
    expected = x
    for group in encoder.suffix("block 1").double():
        expected = group(expected)
    # the same operations, apart from torch's fused attention
    torch.testing.assert_close(fit.model.embed(x), expected, rtol=0, atol=1e-12)
    fit.train_until(24)
    assert (fit.model.embed(x) - expected).abs().max() > 1e-6


@pytest.mark.parametrize("tower", [native, timm, fastvit])
@pytest.mark.parametrize("boundary", ["block 0", "block 1"])
def test_merged_weights_are_the_model_without_lora(tower: object, boundary: str) -> None:
    encoder = split_tower(tower())  # type: ignore[operator]
    fit = tuning(encoder, boundary, dtype=torch.float64, **ALL)
    fit.train_until(80)
    found = exported_weights(fit)
    examples = at(encoder, boundary, *images(15, 2))
    selection = select(fit.recipe, encoder)
    exported = build_classifier(
        split_tower(tower()).double(),  # type: ignore[operator]
        selection,
        boundary,
        found,
        Device("cpu"),
    ).double()
    for key, parameter in exported.trained.items():  # built in float32
        parameter.data.copy_(found[key])
    exported.head.weight.data.copy_(found["head/weight"][None])
    exported.head.bias.data.copy_(found["head/bias"][None])
    assert not any("low_rank" in name for name, _ in exported.named_parameters())
    x, _ = examples.batch(examples.rows, torch.device("cpu"), torch.float64)
    outputs = [model.head(model.eval().embed(x)) for model in (fit.model, exported)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 3), (4, 4), (3, 7)])
def test_a_rank_as_large_as_the_matrix_reaches_every_matrix(shape: tuple[int, int]) -> None:
    target = torch.randn(*shape, dtype=torch.float64)
    low_rank = LowRank(torch.zeros(*shape, dtype=torch.float64), 20, 20.0, 0)
    low_rank.b.copy_(target @ torch.linalg.pinv(low_rank.a))
    if shape[0] >= shape[1]:
        torch.testing.assert_close(low_rank(torch.zeros_like(target)), target)
    else:  # B is square, and A is trained too
        low_rank.a.copy_(torch.linalg.solve(low_rank.b, target))
        torch.testing.assert_close(low_rank(torch.zeros_like(target)), target)


def test_a_kernel_is_a_matrix_with_a_row_for_each_output() -> None:
    kernel = torch.randn(6, 2, 3, 3)
    low_rank = LowRank(kernel, 4, 8.0, 0)
    low_rank.b.copy_(torch.randn(6, 4))
    assert torch.equal(low_rank(kernel).flatten(1), low_rank(kernel.flatten(1)))
    assert low_rank.a.shape == (4, 18)


def test_scales_and_tables_of_positions_are_not_adapted() -> None:
    for tower in (swin(), fastvit()):
        selection = select(Recipe(blocks="all", **ALL), split_tower(tower))
        adapted = {p.name.rpartition(".")[2] for p in selection.parameters if p.low_rank}
        assert adapted == {"weight"}
        assert not any(p.name.endswith(("gamma", "table")) for p in selection.parameters)


def test_an_interrupted_fit_goes_on_bit_by_bit(encoder: Encoder) -> None:
    whole, first, second = (tuning(encoder, average=True, **LORA) for _ in range(3))
    whole.train_until(56)
    expected = whole.train_until(400)
    first.train_until(56)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.train_until(400) == expected
    assert_same(weights(second), weights(whole))
    assert_same(exported_weights(second), exported_weights(whole))


def test_nothing_but_the_selection_changes(encoder: Encoder) -> None:
    before = {key: weight.clone() for key, weight in encoder.state_dict().items()}
    fit = tuning(encoder, kinds="ln+mlp", **LORA)
    start = weights(fit)
    fit.train_until(80)
    changed = {name for name, weight in weights(fit).items() if not weight.equal(start[name])}
    assert changed
    for name in changed - {"head.weight", "head.bias"}:
        assert ".ln_" in name or "final" in name or "mlp" in name or "ln_post" in name, name
        assert "frozen" not in name
    assert any(name.endswith("mlp.c_fc.weight_low_rank.b") for name in changed)
    assert_same(before, dict(encoder.state_dict()))


def test_only_the_factors_are_kept_and_counted(encoder: Encoder) -> None:
    fit = tuning(encoder, kinds="attn+mlp", **LORA)
    fit.train_until(8)
    kept = fit.state_dict()["weights"]
    assert {key.rpartition("/")[2] for key in kept} == {"lora_a", "lora_b", "weight", "bias"}
    layers = [weight for key, weight in kept.items() if not key.startswith("head/")]
    assert sum(map(Tensor.numel, layers)) == select(fit.recipe, encoder).count
    assert all(2 in weight.shape for weight in layers)
    norms = fit.gradient_norms()
    assert {group: set(kinds) for group, kinds in norms.items()} == {
        "block 1": {"attn", "mlp"},
        "block 2": {"attn", "mlp"},
    }


def test_it_trains_in_half_precision(encoder: Encoder) -> None:
    fits = []
    for precision in ("bfloat16", "float32"):
        model = tuning(encoder, **LORA)
        model._device = Device("cpu", precision)  # type: ignore[arg-type]
        assert model.train_until(160).finite
        assert all(p.dtype == torch.float32 for p in model.weights().values())
        fits.append(model)
    half, full = (fit.model.merged() for fit in fits)
    for key in half:
        assert (half[key] - full[key]).norm() < 0.05 * full[key].norm(), key


def test_a_seed_draws_its_own_start(encoder: Encoder) -> None:
    def start(seed: int) -> dict[str, Tensor]:
        base = tuning(encoder, **LORA)
        fit = Fit(encoder, select(base.recipe, encoder), "block 1", base._train, base._val,
                  classes=CLASSES, horizon=400, seed=seed)  # fmt: skip
        return weights(fit)

    assert_same(start(0), start(0))
    name = "groups.0.part.mlp.c_fc.weight_low_rank.a"
    assert not torch.equal(start(0)[name], start(1)[name])
