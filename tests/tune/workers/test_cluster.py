"""What is asked of devices and of an address before a search, without any."""

from __future__ import annotations

import socket

import pytest
import torch

from errors import InputError
from models.device import CONTEXT, available_device
from tune.workers.cluster import CLAIMED, _check_answers, _resolve, _slots


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would train on the CPU without a word, and hold the GPU."""
    monkeypatch.delenv(CLAIMED, raising=False)
    precision, trouble = _resolve("auto")
    assert precision == "float32"
    assert torch.__version__ in trouble
    assert "\n" not in trouble
    monkeypatch.setenv(CLAIMED, "1")
    assert _resolve("bfloat16") == ("bfloat16", "")


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


@pytest.mark.parametrize(
    ("node", "slot", "slots"),
    [
        ({"CPU": 16, "GPU": 4}, {"CPU": 1, "GPU": 0.25}, 16),
        ({"CPU": 16, "GPU": 4}, {"CPU": 1, "GPU": 0.3}, 12),
        ({"CPU": 2, "GPU": 4}, {"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 0, "GPU": 4}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4}, {"CPU": 1.5}, 2),
    ],
)
def test_slots_of_a_machine(node: dict[str, float], slot: dict[str, float], slots: int) -> None:
    assert _slots(node, slot) == slots


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_told_at_once(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _check_answers(f"{scheme}127.0.0.1:{port}")
    with pytest.raises(InputError, match=rf"^--address {scheme}127.0.0.1:{port}: nothing answers"):
        _check_answers(f"{scheme}127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no.such.host.invalid:6379"])
def test_an_address_of_nowhere_is_told(address: str) -> None:
    with pytest.raises(InputError, match="nothing answers there"):
        _check_answers(address)


def test_a_port_is_not_taken_by_what_16_bits_leave_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] + 65536
        with pytest.raises(InputError, match=f"nothing answers there .no port {port}"):
            _check_answers(f"127.0.0.1:{port}")


def test_ray_finds_a_cluster_of_this_machine_itself() -> None:
    _check_answers("auto")
