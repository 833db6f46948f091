"""What is asked of the devices of a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from data import FileSource
from errors import InputError
from models.device import CONTEXT, available_device
from tune.workers import survey as survey_module
from tune.workers.survey import _resolve, gpu_trouble, survey


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


@pytest.fixture
def one_machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster of this machine alone."""
    monkeypatch.setattr(survey_module, "alive", lambda: {"n": {"NodeManagerAddress": "10.0.0.1"}})
    return type("Cluster", (), {"grows": False})()


def test_a_machine_sees_images_though_the_first_are_gone(tmp_path: Path, one_machine: Any) -> None:
    keys = [f"{n}.jpg" for n in range(40)]
    for key in keys[20:]:
        (tmp_path / key).touch()
    found = survey(one_machine, FileSource(tmp_path), keys)
    assert [node.sees_images for node in found.nodes] == [True]
    found.check("folder:photos")


def test_a_machine_that_sees_none_is_refused_with_an_example(
    tmp_path: Path, one_machine: Any
) -> None:
    found = survey(one_machine, FileSource(tmp_path), ["cat/a.jpg"])
    assert [node.sees_images for node in found.nodes] == [False]
    with pytest.raises(InputError) as error:
        found.check("csv:photos.csv")
    assert str(error.value) == (
        "data.source: csv:photos.csv: 10.0.0.1 can read no image, such as cat/a.jpg: No such file "
        "or directory; every machine of the cluster needs them at the same path"
    )
