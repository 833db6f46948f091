"""What is asked of the devices of a machine."""

from __future__ import annotations

import pytest
import torch

from models.precision import CONTEXT, available_device
from tune.workers.survey import _resolve, gpu_trouble


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_use_is_told() -> None:
    """It would train on the CPU without a word, and hold the GPU."""
    precision, trouble = _resolve("auto", gpu_trouble)
    assert precision == "float32"
    assert torch.__version__ in trouble
    assert "\n" not in trouble
    assert _resolve("bfloat16", lambda: "") == ("bfloat16", "")


@pytest.mark.parametrize(("share", "allowed"), [(0.5, 0.5 - 1 / 24), (0.05, 0.025)])
def test_a_process_takes_its_share_of_a_gpu(
    share: float, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    card = type("Card", (), {"total_memory": 24 * CONTEXT})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    assert available_device() == "cuda"
    assert limits == []
    assert available_device(share) == "cuda"
    assert limits == [pytest.approx(allowed)]
