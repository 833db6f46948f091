"""What is asked of an address before Ray is."""

from __future__ import annotations

import socket

import pytest

from errors import InputError
from tune.workers.cluster import _check_answers


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
