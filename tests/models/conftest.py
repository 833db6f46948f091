"""Fixtures of the room's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from models.encoder import Encoder
from models.towers import split_tower
from tests.models.tiny_towers import native


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from threads, and lose a lot on a machine shared with others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def encoder() -> Encoder:
    """A tiny native tower's; fits copy from it and leave it alone."""
    return split_tower(native())
