"""Work in portions of a size that fits the memory of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from models.resident_features import give_way

Result = TypeVar("Result")
# Messages of the libraries of NVIDIA and AMD, which torch passes on as any other error.
NO_MEMORY = (
    "out of memory",
    "STATUS_ALLOC_FAILED",  # of cuBLAS, cuDNN, cuSOLVER, cuSPARSE and hipBLAS
    "rocblas_status_memory_error",
    "NVML_SUCCESS == r INTERNAL ASSERT FAILED",  # torch before 2.14 in MIG slices and containers
)
NO_HANDLE = (
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
)
"""What a library says that found no memory to begin with, but also on a GPU that is broken."""


class MicroBatches:
    """The size of a portion, halved for good whenever the device has no memory for one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._doubted = False

    def run(self, work: Callable[[int], Result]) -> Result:
        """Do `work(size)`, and start over with half the size for as long as memory runs out.

        Features that stay on the device give way before that.
        What may be a broken GPU as well (`NO_HANDLE`) is tried again once.

        Raises:
            RuntimeError: there is no memory for portions of one, or `work` failed otherwise.
        """
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:
                doubtful = _names(error, NO_HANDLE)
                if not is_out_of_memory(error) or (doubtful and self._doubted):
                    raise
                gave_way = give_way()
                if self.size == 1 and not gave_way:
                    raise
                self._doubted |= doubtful
            # Here, not above: the error's frames would hold on to what filled the memory.
            if not gave_way:
                self.size = -(-self.size // 2)
            torch.cuda.empty_cache()


def cpu_on_oom(work: Callable[..., Result], *tensors: Tensor) -> Result:
    """Do `work(*tensors)` where they lie; on the CPU, if their device has no memory for it."""
    try:
        return work(*tensors)
    except RuntimeError as error:
        if not is_out_of_memory(error) or all(tensor.device.type == "cpu" for tensor in tensors):
            raise
        gave_way = give_way()
    torch.cuda.empty_cache()
    if gave_way:
        return cpu_on_oom(work, *tensors)
    return work(*(tensor.cpu() for tensor in tensors))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error means that there is no memory, in the words of torch or a library."""
    return isinstance(error, torch.OutOfMemoryError) or _names(error, NO_MEMORY + NO_HANDLE)


def _names(error: RuntimeError, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)
