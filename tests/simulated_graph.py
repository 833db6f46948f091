"""What a CUDA graph is to CUDA, for the simulated device: operations recorded with their memory.

Done again, an operation takes the same tensors and the same numbers as when it was recorded: what a
step reads that is no tensor of the device stays as it was, which `Recording.reads` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from models.step_graph import RECORDERS
from tests.simulated_device import NAME, SimulatedTensor


class Recording:
    """Operations of a piece of work, and all the memory that they take.

    Attributes:
        reads: of each operation its name and what it takes: numbers as they are, of tensors the
            form, and which memory they lie in. Memory of the recording itself is numbered.
    """

    def __init__(self) -> None:
        self.reads: list[tuple[Any, ...]] = []
        self._moved = _moved()
        self._operations: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []
        self._own: dict[int, int] = {}  # addresses
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def run(
        self, function: Any, args: Any, kwargs: dict[str, Any], numbers: Sequence[Tensor]
    ) -> Any:
        """Do an operation on the CPU's tensors, some of which are only `numbers`, and note it."""
        given, fixed = tree_leaves((args, kwargs)), {id(x) for x in numbers}
        described = [repr(x) if id(x) in fixed else self._described(x) for x in given]
        self.reads.append((str(function), *described))
        for x in given:
            if isinstance(x, Tensor):
                self._keep(x.untyped_storage())
        found = function(*args, **kwargs)
        made = [x for x in tree_leaves(found) if isinstance(x, Tensor)]
        for x in made:
            address = x.untyped_storage().data_ptr()
            if address not in self._before:
                self._own.setdefault(address, len(self._own))
            SimulatedTensor.meter.take(x, self)
        self._operations.append((function, args, kwargs, made))
        return found

    def end(self) -> None:
        """Put back what lay in memory that others use.

        Raises:
            RuntimeError: the CPU waited for the device, or sent something there.
        """
        for storage, before in self._before.values():
            storage.copy_(before)
        if self._moved != _moved():
            raise RuntimeError("operation not permitted when stream is capturing")

    def replay(self) -> None:
        """Do all operations again, on the same memory."""
        for function, args, kwargs, made in self._operations:
            found = [x for x in tree_leaves(function(*args, **kwargs)) if isinstance(x, Tensor)]
            for x, place in zip(found, made, strict=True):
                if x.untyped_storage().data_ptr() != place.untyped_storage().data_ptr():
                    place.copy_(x)

    def _described(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return repr(x)
        address = x.untyped_storage().data_ptr()
        place = ("own", self._own[address]) if address in self._own else ("other", address)
        return (*place, x.dtype, tuple(x.shape), x.stride(), x.storage_offset())

    def _keep(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address not in self._own and address not in self._before:
            self._before[address] = storage, storage.clone()


def _moved() -> int:
    meter = SimulatedTensor.meter
    return meter.sent + meter.fetched + meter.waits.total()


class SimulatedRecorder:
    """Records on the simulated device.

    Attributes:
        recordings: all that were made, by any.
    """

    recordings: list[Recording]

    def __init__(self, device: torch.device) -> None:
        assert device.type == NAME

    def warm_up(self, work: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """Do `work`."""
        waits = SimulatedTensor.meter.waits.total()
        return work(), SimulatedTensor.meter.waits.total() > waits

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record `work`; as on CUDA, nothing has changed afterwards."""
        recording = Recording()
        with mock.patch.object(SimulatedTensor, "recording", recording):
            try:
                found = work()
            finally:
                recording.end()
        self.recordings.append(recording)
        return recording.replay, found


@contextmanager
def recorded() -> Iterator[list[Recording]]:
    """Have steps on the simulated device be recorded; yields the recordings."""
    SimulatedRecorder.recordings = []
    with mock.patch.dict(RECORDERS, {NAME: SimulatedRecorder}):
        yield SimulatedRecorder.recordings
    SimulatedRecorder.recordings = []
