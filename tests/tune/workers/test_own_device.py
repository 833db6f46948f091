"""The device that Ray gave to a process, with mocks of what Ray and torch say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray
import torch

from tune.workers import own_device as module
from tune.workers.own_device import CLAIMED, WORKSPACE, own_device


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray has given this process a GPU."""
    monkeypatch.setattr(module, "given_share", lambda: 0.5)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")


def test_a_process_whose_gpu_has_gone_fails(given: None) -> None:
    """It would train on the CPU, for days, and hold the slot."""
    with pytest.raises(RuntimeError, match=r"^no GPU here: Ray gave 3 on 10\.0\.0\.7, and torch"):
        own_device()


def test_a_gpu_that_is_claimed_for_a_test_may_be_missing(
    given: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLAIMED, "1")
    assert own_device() == "cpu"


def test_a_process_with_its_gpu_goes_on(given: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "available_device", lambda share: shares.append(share) or "cuda")
    assert own_device() == "cuda"
    assert shares == [0.5]


def test_a_process_without_one_has_the_cpu() -> None:
    assert own_device() == "cpu"


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    os.environ.pop(WORKSPACE, None)


def test_a_deterministic_process_says_so_to_torch_and_cublas(restored: None) -> None:
    own_device()
    assert not torch.are_deterministic_algorithms_enabled()
    own_device(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ[WORKSPACE] == ":4096:8"
