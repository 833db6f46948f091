"""What runs in half precision, and where."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from errors import InputError
from models.device import Device, available_device, gpu_trouble, usable_device
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.tiny_towers import at, native, pixels


def product(device: Device) -> torch.dtype:
    """What a matrix product runs in."""
    x = torch.ones(2, 2, device=device.torch)
    with device.autocast():
        return (x @ x).dtype


def test_auto_on_a_cpu_is_float32() -> None:
    device = Device("cpu", "auto")
    assert device.precision == "float32"
    assert product(device) == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_auto_on_a_gpu_is_what_it_has_in_hardware(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def is_bf16_supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return has_bfloat16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    expected = "bfloat16" if has_bfloat16 else "float16"
    assert Device("cuda", "auto").precision == expected
    # A V100 emulates bfloat16, slower than float32.
    assert asked == [False]


def test_bfloat16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with pytest.raises(InputError, match=r"^model\.precision: bfloat16 .* allowed: auto, float16"):
        Device("cuda", "bfloat16")
    assert Device("cuda", "float32").precision == "float32"


def test_a_gpu_that_torch_has_no_kernels_for_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A winner is loaded to the CPU there; a search refuses it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_device() == "cuda"
    assert usable_device() == "cpu"
    assert torch.__version__ in gpu_trouble()


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_named_precision_is_what_products_run_in(name: str) -> None:
    device = Device("cpu", name)  # type: ignore[arg-type]
    assert device.precision == name
    assert product(device) == getattr(torch, name)
    # Only float16 has too few exponents for its gradients.
    assert device.scaler().is_enabled() == (name == "float16")


def test_device_is_there() -> None:
    assert available_device() == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch.zeros(1, device=available_device()).sum() == 0


def fit_in(device: Device) -> Fit:
    encoder = split_tower(native())
    data = at(encoder, "block 1", pixels(24), np.arange(24) % 3)
    recipe = Recipe(blocks="2-1", batch_size=8, lr=1e-3, head_lr=1e-2)
    return Fit(
        encoder,
        select(recipe, encoder),
        "block 1",
        data,
        data,
        classes=3,
        horizon=240,
        seed=0,
        device=device,
    )


def assert_close_to_float32(device: Device) -> None:
    exact, found = fit_in(Device("cpu")), fit_in(device)
    expected, evaluation = exact.train_until(240), found.train_until(240)
    assert evaluation.finite
    assert evaluation.train_loss == pytest.approx(expected.train_loss, abs=0.1)
    assert evaluation.train_loss < 1.0 < np.log(3)
    for parameter in found.model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.device.type == device.torch.type


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_fits_keep_float32_weights(name: str) -> None:
    assert_close_to_float32(Device("cpu", name))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["auto", "float32", "bfloat16", "float16"])
def test_fits_on_a_gpu_agree_with_the_cpu(name: str) -> None:
    assert_close_to_float32(Device("cuda", name))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["float32", "float16"])
def test_fits_resume_on_a_gpu(name: str) -> None:
    device = Device("cuda", name)  # type: ignore[arg-type]
    first, second = fit_in(device), fit_in(device)
    first.train_until(80)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    expected, found = first.train_until(160), second.train_until(160)
    assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-3)
    assert found.val_loss == pytest.approx(expected.val_loss, rel=1e-3)


@pytest.mark.parametrize(
    ("share", "free", "twice", "expected"),
    [
        (1.0, 30, False, 0.8 * (40 - 25)),  # of what this process may yet take, and holds
        (1.0, 30, True, 0.8 * (40 - 25 - 4)),  # what was there for a time has memory of its own
        (0.5, 30, False, 0.8 * (32 - 25)),
        (1.0, 2, False, 0.0),  # others have taken it
        (0.25, 30, False, 0.0),
    ],
)
def test_what_is_spare_of_a_gpu_no_tensor_was_ever_in(
    share: float, free: int, twice: bool, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 21)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 64))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: share)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 10)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 25)
    assert Device("cuda").spare(twice) == int(expected)
    assert Device("cpu").spare() == 0


@pytest.mark.gpu
def test_a_gpus_spare_memory_is_less_by_what_was_there() -> None:
    device = Device("cuda")
    device.watch_memory()
    before = device.spare()
    torch.empty(1 << 26, dtype=torch.uint8, device="cuda")
    assert 0 < device.spare() < before
