"""A whole training step that is recorded once, and then launched as one operation.

A step of few layers is hundreds of short operations, and launching them takes longer than doing
them. A CUDA graph launches all at once, on the same memory. So what differs between steps, the
positions of the batch and some numbers, is first written to tensors that stay where they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.feature_dataset import FeatureDataset
from models.micro_batches import MicroBatches
from models.resident_features import ResidentDataset, refill

Numbers = Sequence[float | Tensor]
WARM_UP = 3  # steps before the recorded one, as torch advises
WAITED = "called a synchronizing CUDA operation"  # torch's words


class Recorder(Protocol):
    """Records what a device is asked to do, to do it again."""

    def __init__(self, device: torch.device) -> None: ...

    def warm_up(self, work: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """Do `work` where it will be recorded; says whether the CPU waited for the device, too."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record `work` without doing it; returns what does it, and where its result will be.

        Raises:
            RuntimeError: there is no memory for it, or the CPU waits for the device.
        """


class CudaRecorder:
    """Records CUDA graphs, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def warm_up(self, work: Callable[[], Tensor]) -> tuple[Tensor, bool]:
        """Do `work` on that stream, between what comes before and after it."""
        current, mode = torch.cuda.current_stream(self._device), torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                found = work()
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        current.wait_stream(self._stream)
        return found, any(WAITED in str(warning.message) for warning in said)

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record `work` as a graph, whose memory is its own."""
        graph = torch.cuda.CUDAGraph()
        # Where the inner block fails, it does not go back to this stream.
        with (
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            found = work()
        return graph.replay, found


RECORDERS: dict[str, type[Recorder]] = {"cuda": CudaRecorder}
"""By the type of their device; on others no step is recorded."""


class StepGraph:
    """Does the steps of a fit: as ever, until one can be recorded, which is then done again.

    That takes features that stay on the device, and a step that draws nothing at random and that
    the CPU does not wait in. Where memory runs out steps are as ever, with the same numbers.

    `portions` are those of the batches: as long as memory suffices, whole ones.
    """

    def __init__(self, recorder: Recorder, device: torch.device, portions: MicroBatches) -> None:
        self._recorder, self._device = recorder, device
        self._portions, self._batch_size = portions, portions.size
        self._positions = torch.zeros(portions.size, dtype=torch.int64, device=device)
        self._numbers = torch.zeros(0, device=device)
        self._recorded: list[tuple[Callable[[], None], Tensor]] = []  # one at most
        self._warm, self._possible = 0, True

    @classmethod
    def on(cls, device: torch.device, portions: MicroBatches) -> StepGraph | None:
        """Make one, where steps can be recorded on the device."""
        if device.type not in RECORDERS:
            return None
        return cls(RECORDERS[device.type](device), device, portions)

    def step(
        self,
        train: FeatureDataset,
        positions: NDArray[np.int64],
        numbers: Sequence[float],
        as_ever: Callable[[NDArray[np.int64], Numbers], Tensor],
        to_record: Callable[[Tensor, Tensor, Numbers], Tensor],
    ) -> Tensor:
        """Do a step and return its losses.

        `to_record` does the same as `as_ever`, given features and labels on the device. Both get
        the numbers as float32 on the device.
        """
        if not len(self._numbers):
            self._numbers = self._numbers.new_zeros(len(numbers))
        refill(self._numbers, np.array(numbers, np.float32))
        each = self._numbers.unbind()
        self._possible &= self._portions.size == self._batch_size
        if not (self._possible and isinstance(train, ResidentDataset) and train.stays):
            self.forget()
            return as_ever(positions, each)
        if self._warm < WARM_UP:
            return self._warmed_up(lambda: as_ever(positions, each))
        try:
            self._make_ready(train, positions, lambda x, y: to_record(x, y, each))
        except RuntimeError:
            self._possible = False
        else:  # what fails from here on must not be done twice
            replay, losses = self._recorded[0]
            replay()
            return losses.clone()  # the next step overwrites them
        # Here, not above: the error's frames would hold on to what filled the memory.
        self.forget()
        torch.cuda.empty_cache()
        return as_ever(positions, each)

    def forget(self) -> None:
        """Have a step recorded anew: tensors that it works on are others now."""
        self._recorded.clear()
        self._warm = 0

    def _warmed_up(self, work: Callable[[], Tensor]) -> Tensor:
        before = _random_states(self._device)
        losses, waited = self._recorder.warm_up(work)
        drawn = not all(map(torch.equal, before, _random_states(self._device)))
        self._possible = not waited and not drawn
        self._warm += 1
        return losses

    def _make_ready(
        self,
        train: ResidentDataset,
        positions: NDArray[np.int64],
        work: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Send a step's positions, and record it unless it is."""
        train.send(positions, self._device)
        refill(self._positions, positions)
        if not self._recorded:
            where, dtype = self._positions, self._numbers.dtype
            train.read_by(self._recorded)
            self._recorded.append(self._recorder.record(lambda: work(*train.chosen(where, dtype))))


def _random_states(device: torch.device) -> list[Tensor]:
    there = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *there]
