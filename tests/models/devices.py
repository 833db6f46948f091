"""The devices that fits are tested on: a simulated one, and a real one where there is one."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch

from tests.simulated_device import NAME, simulated


class TestedDevice(ABC):
    """A device, and what can be asked of it.

    Attributes:
        name: what torch calls it.
        tolerance: by how much losses may differ from the CPU's, relatively.
    """

    __test__ = False
    name: str
    tolerance: float

    @abstractmethod
    def without_waiting(self) -> contextlib.AbstractContextManager[None]:
        """Fail if the CPU waits for the device within the block."""

    @abstractmethod
    def live(self) -> int:
        """The bytes of all tensors on the device."""


class Simulated(TestedDevice):
    """The simulated device, whose arithmetic is the CPU's."""

    name, tolerance = NAME, 1e-5

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Simulated:
        self.meter = self._stack.enter_context(simulated())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        self.meter.restart()
        yield
        assert not self.meter.waits

    def live(self) -> int:
        return self.meter.live


class Cuda(TestedDevice):
    """The GPU of this machine; its convolutions may round to TF32."""

    name, tolerance = "cuda", 1e-2

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def live(self) -> int:
        return torch.cuda.memory_allocated()
