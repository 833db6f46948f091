"""Fits on a device of its own: the same as on the CPU, without waiting, in the memory that is said.

The device is simulated (`tests/simulated_device.py`); `make gpu` runs what applies on a GPU too.
"""

from __future__ import annotations

import gc
import io
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from models.classifier import build_classifier
from models.config import PrecisionName
from models.device import Device
from models.encoder import Encoder
from models.exported import exported_weights
from models.final_weights import select_weights
from models.fit import Fit
from models.flops import STATE, training_memory
from models.head import LinearHead
from models.micro_batches import is_out_of_memory
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.devices import Cuda, Simulated, TestedDevice
from tests.models.fits import CLASSES, assert_same, images, weights
from tests.models.tiny_towers import DIM, TOWERS, at, native, pixels
from tests.simulated_device import NAME, Meter

BATCH, STEPS = 8, 2
DIRECT: dict[str, dict[str, Any]] = {
    "lbfgs": {"solver": "lbfgs", "weight_decay": (1e-3, 0.1), "anchor": (0.0, 1.0), "top_k": 2},
    "gda": {"solver": "gda", "head_start": "zero_shot", "gda": (0.5, 1.0)},
}
STEPPED: dict[str, dict[str, Any]] = {
    "frozen bank": {"head_lr": (0.05, 0.01), "weight_decay": (0.0, 0.1)},
    "suffix": {"blocks": "2-1", "pull_to_start": 0.1, "weight_decay": 0.1},
    "LoRA": {"blocks": "2-1", "kinds": "attn+mlp", "lora_rank": 2},
    "LayerNorm": {"blocks": "2-1", "kinds": "ln", "class_weights": "balanced"},
    "full": {"blocks": "all", "kinds": "ln+attn+mlp+embed+proj"},
}
BUDGETS = {"frozen bank": 65, "suffix": 260, "LoRA": 270, "LayerNorm": 220, "full": 360}
"""The operations that a step may launch, on the tiny native tower of three blocks."""


@cache
def encoder_of(tower: str) -> Encoder:
    return split_tower(TOWERS[tower]())


def fit_of(
    encoder: Encoder,
    device: str,
    settings: dict[str, Any],
    precision: PrecisionName = "float32",
    **options: Any,
) -> Fit:
    recipe = Recipe(**{"batch_size": BATCH, "lr": 1e-3, "head_lr": 0.01, **settings})
    selection = select(recipe, encoder)
    train, val = (at(encoder, selection.boundary, *images(24, seed)) for seed in (1, 2))
    text = torch.randn(CLASSES, encoder.dim, generator=torch.Generator().manual_seed(3))
    defaults = {"classes": CLASSES, "horizon": 240, "seed": 0, "average": not recipe.frozen_encoder}
    return Fit(
        encoder,
        selection,
        selection.boundary,
        train,
        val,
        start=LinearHead(text / 10, torch.zeros(CLASSES)),
        device=Device(device, precision),
        **{**defaults, **options},
    )


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[TestedDevice]:
    if request.param == "cuda":
        yield Cuda()
        return
    with Simulated() as found:
        yield found


@pytest.fixture
def sim() -> Iterator[Simulated]:
    with Simulated() as found:
        yield found


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Memory must come back by itself: nobody collects garbage while the next trial starts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def outcome(fit: Fit) -> list[float]:
    """Every number that a search and a final fit are about."""
    found = fit.train_until(STEPS * BATCH, prospect=True)
    numbers = [found.train_loss, found.val_loss, found.score, found.weight_distance]
    if found.prospect is not None:
        numbers += [found.prospect, fit.train_until((STEPS + 1) * BATCH).val_loss]
        numbers.append(select_weights(fit, (0.5,)).evaluation.val_loss)
    return numbers


@pytest.mark.parametrize(
    ("tower", "recipe"),
    [
        *(("native", recipe) for recipe in (*STEPPED, *DIRECT)),
        *(("timm, token", recipe) for recipe in STEPPED),
        *((tower, "full") for tower in TOWERS if tower not in ("native", "timm, token")),
    ],
)
def test_a_fit_is_the_cpus(tower: str, recipe: str, device: TestedDevice) -> None:
    encoder, settings = encoder_of(tower), {**STEPPED, **DIRECT}[recipe]
    expected, found = (outcome(fit_of(encoder, name, settings)) for name in ("cpu", device.name))
    assert found == pytest.approx(expected, rel=device.tolerance, abs=1e-6)


@pytest.mark.parametrize("tower", TOWERS)
def test_features_are_the_cpus(tower: str, device: TestedDevice) -> None:
    encoder = split_tower(TOWERS[tower]())
    expected = encoder.features(pixels(4), encoder.boundaries)
    encoder.to(device.name)
    found = encoder.features(pixels(4).to(device.name), encoder.boundaries)
    for boundary, x in expected.items():
        torch.testing.assert_close(
            found[boundary].cpu(), x, rtol=device.tolerance, atol=device.tolerance
        )


@pytest.mark.parametrize("recipe", ["suffix", "LoRA", "lbfgs"])
def test_an_exported_winner_is_the_same_there(recipe: str, device: TestedDevice) -> None:
    encoder = encoder_of("native")
    fit = fit_of(encoder, device.name, {**STEPPED, **DIRECT}[recipe])
    fit.train_until(BATCH)
    assert fit.best is not None
    found, logits = exported_weights(fit), fit.logits(fit._val, fit.best.head)
    selection = select(fit.recipe.of_head(fit.best.head), encoder)
    place = Device(device.name)
    built = build_classifier(encoder, selection, selection.boundary, found, place)
    torch.testing.assert_close(
        built.logits(fit._val, place),
        logits,
        rtol=device.tolerance,
        atol=device.tolerance,
    )


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("recipe", STEPPED)
def test_a_step_waits_for_nothing(
    recipe: str, precision: PrecisionName, device: TestedDevice
) -> None:
    fit = fit_of(encoder_of("native"), device.name, STEPPED[recipe], precision)
    fit.step()
    with device.without_waiting():
        fit.step()


@pytest.mark.parametrize("recipe", STEPPED)
def test_a_step_sends_its_batch_and_launches_no_more_than_it_needs(
    recipe: str, sim: Simulated
) -> None:
    fit = fit_of(encoder_of("native"), sim.name, STEPPED[recipe])
    fit.step()
    features, labels = fit._train.batch(np.arange(BATCH), torch.device("cpu"), torch.float32)
    sim.meter.restart()
    fit.step()
    assert sim.meter.sent == features.nbytes + labels.nbytes
    assert sim.meter.fetched == 0
    launches = sum(sim.meter.launches.values())
    assert 0.8 * BUDGETS[recipe] < launches <= BUDGETS[recipe], sim.meter.launches


def test_a_milestone_waits_a_few_times_whatever_the_depth(sim: Simulated) -> None:
    waits = []
    for layers in (2, 4):
        fit = fit_of(split_tower(native(layers=layers)), sim.name, {"blocks": f"{layers - 1}-0"})
        fit.train_until(BATCH)
        sim.meter.restart()
        fit.train_until(2 * BATCH, prospect=True)
        waits.append(sum(sim.meter.waits.values()))
    assert waits[0] == waits[1] <= 4  # two evaluations, the loss, the distance


@pytest.mark.parametrize("recipe", [*STEPPED, *DIRECT])
def test_nothing_of_a_fit_stays(recipe: str, device: TestedDevice, without_gc: None) -> None:
    def whole() -> int:
        fit = fit_of(encoder_of("native"), device.name, {**STEPPED, **DIRECT}[recipe])
        outcome(fit)
        return device.live()

    whole()  # a GPU's libraries keep what they work with
    before = device.live()
    assert whole() > before
    assert device.live() == before


@pytest.mark.parametrize("recipe", STEPPED)
def test_a_resumed_fit_stays_where_it_is(recipe: str, device: TestedDevice) -> None:
    whole, first, second = (
        fit_of(encoder_of("native"), device.name, STEPPED[recipe], "float16") for _ in range(3)
    )
    for fit in (whole, first):
        fit.train_until(STEPS * BATCH)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    with device.without_waiting():
        second.step()
    whole.step()
    expected, found = (fit.train_until(2 * STEPS * BATCH).val_loss for fit in (whole, second))
    assert found == pytest.approx(expected, rel=device.tolerance)


def test_a_suffix_that_overflows_moves_nothing(device: TestedDevice) -> None:
    fit = fit_of(encoder_of("native"), device.name, {"blocks": "2-1"}, "float16")
    fit._update.scaler = torch.amp.GradScaler(device.name, init_scale=256.0)
    fit.step()
    before = weights(fit)
    trained = next(iter(fit.model.trained.values()))
    overflow = trained.register_hook(lambda gradient: gradient * torch.inf)
    fit.step()
    assert_same(weights(fit), before)  # the head neither, whose own gradient is finite
    assert fit._update.scaler.get_scale() == 128.0
    overflow.remove()
    fit.step()
    after = weights(fit)
    assert all(weight.isfinite().all() for weight in after.values())
    assert not torch.equal(after["head.weight"], before["head.weight"])


def said(recipe: str, examples: int) -> int:
    """The memory that a fit is said to take, with what that leaves out: heads and outputs."""
    encoder = encoder_of("native")
    selection = select(Recipe(**STEPPED[recipe]), encoder)
    state, example = training_memory(encoder, selection, selection.boundary, "float32")
    heads = (2 + STATE) * CLASSES * (DIM + 1)
    return state + examples * example + 4 * (heads + 3 * examples * (CLASSES + DIM))


MATH = 1.15
"""Here attention keeps its weights, which a GPU's fused attention computes again."""


@pytest.mark.parametrize("recipe", ["suffix", "LoRA", "LayerNorm", "full"])
def test_a_fit_takes_the_memory_that_is_said(recipe: str, sim: Simulated) -> None:
    fit = fit_of(encoder_of("native"), sim.name, {**STEPPED[recipe], "batch_size": 24})
    outcome(fit)
    assert 0.7 * said(recipe, 24) < sim.meter.peak <= MATH * said(recipe, 24)


def limited(meter: Meter, recipe: str, limit: float) -> list[float] | None:
    """The outcome of a fit with so much memory; None where it ran out."""
    meter.limit = limit
    try:
        return outcome(fit_of(encoder_of("native"), NAME, STEPPED[recipe]))
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise
    finally:
        meter.limit = math.inf


@pytest.mark.parametrize("recipe", ["suffix", "LoRA"])
def test_with_any_memory_a_fit_ends_the_same_or_says_that_it_ran_out(
    recipe: str, sim: Simulated
) -> None:
    expected = outcome(fit_of(encoder_of("native"), "cpu", STEPPED[recipe]))
    least, most, meter = MATH * said(recipe, 1), MATH * said(recipe, BATCH), sim.meter
    for limit in (0.3 * least, 0.6 * least, 0.8 * least, 1.1 * least, 0.6 * most):
        found = limited(meter, recipe, limit)
        assert found is not None or limit < 1.1 * least
        assert found is None or found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        gc.collect()  # the error's frames
        assert meter.live == 0
