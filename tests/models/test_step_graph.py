"""A step that is recorded and done again is the step itself, to the bit."""

from __future__ import annotations

import gc
import io
import math
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.config import PrecisionName
from models.device import Device
from models.fit import Fit
from models.resident_features import ResidentDataset
from models.step_graph import WARM_UP, CudaRecorder
from tests.models.devices import Simulated
from tests.models.fits import assert_same, weights
from tests.models.test_on_a_device import BATCH, STEPPED, encoder_of, fit_of
from tests.simulated_graph import Recording, SimulatedRecorder, recorded

PLENTY, STEPS = 1e12, 20
ROOMY = 10**9
FIRST = 2 * BATCH  # samples after which features stay on the device


@pytest.fixture
def sim() -> Iterator[Simulated]:
    with Simulated() as found, mock.patch.object(Device, "spare", return_value=PLENTY):
        yield found


@pytest.fixture
def recordings(sim: Simulated) -> Iterator[list[Recording]]:
    with recorded() as found:
        yield found


def graphed(recipe: str, tower: str = "native", name: str = "sim", **options: Any) -> Fit:
    """A fit whose features stay on the device."""
    fit = fit_of(encoder_of(tower), name, STEPPED[recipe], cuda_graph=True, **options)
    fit.train_until(FIRST)
    return fit


def unrecorded(fit: Fit) -> Fit:
    assert fit._graph is not None
    fit._graph._possible = False
    return fit


def losses(fit: Fit, steps: int = STEPS) -> list[list[float]]:
    return [fit.step().tolist() for _ in range(steps)]


@pytest.mark.parametrize(
    ("tower", "recipe"),
    [
        *(("native", recipe) for recipe in STEPPED),
        ("timm, token", "LoRA"),
        *((tower, "full") for tower in ("EVA, token, swiglu", "Swin", "FastViT", "ResNet")),
    ],
)
def test_steps_done_again_are_steps(tower: str, recipe: str, recordings: list[Recording]) -> None:
    steps = STEPS if tower == "native" else WARM_UP + 3
    plain, fit = unrecorded(graphed(recipe, tower)), graphed(recipe, tower)
    expected = losses(plain, steps)
    assert not recordings
    assert losses(fit, steps) == expected
    assert len(recordings) == 1
    assert_same(weights(fit), weights(plain))
    milestone = fit.samples + 2 * BATCH
    one, other = (each.train_until(milestone, prospect=True) for each in (fit, plain))
    assert one == other
    assert fit.gradient_norms() == plain.gradient_norms()
    if fit.average_weights is not None and plain.average_weights is not None:
        assert_same(fit.average_weights, plain.average_weights)


@pytest.mark.parametrize("recipe", STEPPED)
def test_a_step_recorded_anew_does_the_same_with_the_same_numbers(
    recipe: str, recordings: list[Recording]
) -> None:
    fit = graphed(recipe)
    assert fit._graph is not None
    for steps in (1, 2, 1):
        losses(fit, WARM_UP + steps)
        fit._graph.forget()
    first, *others = (recording.reads for recording in recordings)
    assert len(others) == 2
    assert all(reads == first for reads in others)


@pytest.mark.parametrize("recipe", ["frozen bank", "suffix"])
def test_a_number_that_changes_would_be_seen(recipe: str, recordings: list[Recording]) -> None:
    fit = graphed(recipe)
    assert fit._graph is not None
    change = fit._change

    def by_number(_: object) -> None:
        change(fit._update.numbers(1 / fit.samples))

    with mock.patch.object(fit, "_change", by_number):
        losses(fit, WARM_UP + 1)
        fit._graph.forget()
        losses(fit, WARM_UP + 1)
    assert recordings[0].reads != recordings[1].reads


POWERS = {"lr": 2**-10, "head_lr": 2**-6, "pull_to_start": 2**-3}


def test_rates_that_float32_holds_give_the_numbers_of_a_step_without(
    recordings: list[Recording],
) -> None:
    with mock.patch("models.fit.lr_share", lambda samples, *_: 2.0 ** -(samples // 32)):
        plain, fit = (
            fit_of(encoder_of("native"), "sim", STEPPED["suffix"] | POWERS, cuda_graph=graph)
            for graph in (False, True)
        )
        for each in (plain, fit):
            each.train_until(FIRST)
        assert losses(fit) == losses(plain)
    assert recordings
    assert_same(weights(fit), weights(plain))


@pytest.mark.parametrize("recipe", STEPPED)
def test_other_rates_are_rounded_to_float32(recipe: str, recordings: list[Recording]) -> None:
    fit, plain = graphed(recipe), fit_of(encoder_of("native"), "sim", STEPPED[recipe])
    plain.train_until(FIRST)
    np.testing.assert_allclose(losses(fit), losses(plain), rtol=1e-6)
    assert recordings


@pytest.mark.parametrize("recipe", STEPPED)
@pytest.mark.parametrize("resumed_with", [True, False])
def test_a_fit_resumed_in_the_middle_goes_on_the_same(
    recipe: str, resumed_with: bool, recordings: list[Recording]
) -> None:
    whole, first = graphed(recipe), graphed(recipe)
    second = fit_of(encoder_of("native"), "sim", STEPPED[recipe], cuda_graph=resumed_with)
    second.train_until(FIRST)
    losses(second, WARM_UP + 3)  # has been elsewhere, and recorded a step
    losses(first, WARM_UP + 2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    expected = losses(whole, WARM_UP + 2 + STEPS)[-STEPS:]
    if resumed_with:
        before = len(recordings)
        assert losses(second) == expected
        assert len(recordings) == before + 1
        assert_same(weights(second), weights(whole))
    else:
        np.testing.assert_allclose(losses(second), expected, rtol=1e-6)


def test_a_step_done_again_sends_positions_and_numbers_and_waits_for_nothing(
    sim: Simulated, recordings: list[Recording]
) -> None:
    fit = graphed("suffix")
    losses(fit, WARM_UP + 1)
    sim.meter.restart()
    fit.step()
    assert sim.meter.sent == 8 * BATCH + 4 * len(fit._update.numbers(1.0))
    assert not sim.meter.waits
    assert sum(sim.meter.launches.values()) <= 3  # beside the graph: two inputs and the losses


def test_examples_that_were_not_there_yet_are_sent_before(recordings: list[Recording]) -> None:
    plain, fit = unrecorded(graphed("suffix")), graphed("suffix")
    for each in (plain, fit):
        assert isinstance(each._train, ResidentDataset)
        assert each._train.kept is not None
        losses(each, WARM_UP + 1)
        each._train.kept.sent[:] = False
        for table in each._train.kept.tables:
            table.zero_()
    assert losses(fit) == losses(plain)
    assert len(recordings) == 1


@pytest.mark.parametrize("room", [1, 2000, 20_000, ROOMY])
def test_without_memory_to_record_steps_are_as_ever(
    room: int, sim: Simulated, recordings: list[Recording]
) -> None:
    record = SimulatedRecorder.record

    def short(*arguments: Any) -> Any:
        sim.meter.limit = sim.meter.live + room
        try:
            return record(*arguments)
        finally:
            sim.meter.limit = math.inf

    plain, fit = unrecorded(graphed("suffix")), graphed("suffix")
    with mock.patch.object(SimulatedRecorder, "record", short):
        found, before = losses(fit, WARM_UP), sim.meter.live
        found += losses(fit, 1)
    assert len(recordings) == (room == ROOMY)
    assert recordings or sim.meter.live == before
    assert found + losses(fit, STEPS - len(found)) == losses(plain)
    assert_same(weights(fit), weights(plain))


def test_a_recorded_step_gives_way_with_its_memory(
    sim: Simulated, recordings: list[Recording]
) -> None:
    plain, fit = unrecorded(graphed("suffix")), graphed("suffix")
    before = sim.meter.live
    found = losses(fit, WARM_UP + 2)
    recordings.clear()
    held = sim.meter.live - before
    assert held > 0
    judge = fit.model.embed
    failing = [torch.OutOfMemoryError("out of memory")]

    def judged(x: Tensor) -> Tensor:
        if failing:
            raise failing.pop()
        return judge(x)

    with mock.patch.object(fit.model, "embed", judged):
        fit.evaluate()
    assert sim.meter.live < before
    assert found + losses(fit, STEPS) == losses(plain, WARM_UP + 2 + STEPS)
    assert not recordings


def drop(_: nn.Module, given: tuple[Tensor]) -> Tensor:
    return nn.functional.dropout(given[0], 0.1)


def decide(_: nn.Module, given: tuple[Tensor]) -> Tensor | None:
    return None if given[0].sum().item() > 0 else given[0] + 1e-3


@pytest.mark.parametrize("layer", [drop, decide])
def test_what_cannot_be_recorded_is_done_as_ever(layer: Any, recordings: list[Recording]) -> None:
    plain, fit = unrecorded(graphed("suffix")), graphed("suffix")
    for each in (plain, fit):
        each.model.groups[-1].register_forward_pre_hook(layer)
    assert losses(fit) == losses(plain)
    assert not recordings


def test_a_wait_that_shows_late_is_refused(recordings: list[Recording]) -> None:
    plain, fit = unrecorded(graphed("suffix")), graphed("suffix")
    found, expected = losses(fit, WARM_UP), losses(plain, WARM_UP)
    assert found == expected
    for each in (plain, fit):
        each.model.groups[-1].register_forward_pre_hook(decide)
    assert losses(fit) == losses(plain)
    assert not recordings


@pytest.mark.parametrize(
    ("name", "precision"), [("cpu", "float32"), ("sim", "float16"), ("sim", "float32")]
)
def test_a_fit_that_gains_nothing_keeps_its_numbers_as_they_are(
    name: str, precision: PrecisionName, sim: Simulated
) -> None:
    """On the CPU, with a loss scaler, and on a device that records nothing."""
    fit = fit_of(encoder_of("native"), name, STEPPED["suffix"], precision, cuda_graph=True)
    assert fit._graph is None


def test_nothing_of_a_recorded_fit_stays(sim: Simulated, recordings: list[Recording]) -> None:
    gc.collect()
    gc.disable()
    before = sim.meter.live
    fit = graphed("suffix")
    losses(fit)
    assert len(recordings) == 1
    recordings.clear()
    del fit
    after = sim.meter.live
    gc.enable()
    assert after == before


@pytest.mark.parametrize(
    ("said", "waited"),
    [
        ("Synchronization debug mode does not yet detect all synchronizing operations", False),
        ("called a synchronizing CUDA operation (Triggered internally at …)", True),
    ],
)
def test_cudas_warm_up_tells_waiting_by_torchs_words(
    said: str, waited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[object] = []
    for name in ("Stream", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, mock.MagicMock())
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    result = torch.ones(1)

    def work() -> Tensor:
        warnings.warn(said, stacklevel=1)
        return result

    assert CudaRecorder(torch.device("cuda")).warm_up(work) == (result, waited)
    assert modes == ["warn", 0]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", STEPPED)
def test_on_a_gpu_steps_done_again_are_steps(recipe: str, precision: PrecisionName) -> None:
    plain, fit = (graphed(recipe, name="cuda", precision=precision) for _ in range(2))
    assert fit._graph is not None
    expected, found = losses(unrecorded(plain)), losses(fit)
    assert fit._graph._recorded
    np.testing.assert_allclose(found, expected, rtol=1e-3)  # kernels may add up in another order
    milestone = fit.samples + 2 * BATCH
    one, other = (each.train_until(milestone, prospect=True) for each in (fit, plain))
    assert one.val_loss == pytest.approx(other.val_loss, rel=1e-3)
    assert fit._graph._recorded


@pytest.mark.gpu
def test_on_a_gpu_a_step_that_cannot_be_recorded_is_done_as_ever() -> None:
    plain, fit = (graphed("suffix", name="cuda") for _ in range(2))
    np.testing.assert_allclose(losses(fit, WARM_UP), losses(unrecorded(plain), WARM_UP), rtol=1e-3)
    for each in (plain, fit):
        each.model.groups[-1].register_forward_pre_hook(decide)
    np.testing.assert_allclose(losses(fit), losses(plain), rtol=1e-3)
    assert fit._graph is not None
    assert not fit._graph._recorded
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
