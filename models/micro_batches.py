"""Work in portions of a size that fits the memory of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
# Messages of NVIDIA's libraries, which torch passes on as any other error.
NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class MicroBatches:
    """The size of a portion, halved for good whenever the device has no memory for one."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, work: Callable[[int], Result]) -> Result:
        """Do `work(size)`, and start over with half the size for as long as memory runs out.

        Raises:
            RuntimeError: there is no memory for portions of one, or `work` failed otherwise.
        """
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:
                if self.size == 1 or not is_out_of_memory(error):
                    raise
            # Here, not above: the error's frames would hold on to what filled the memory.
            self.size = -(-self.size // 2)
            torch.cuda.empty_cache()


def cpu_on_oom(work: Callable[..., Result], *tensors: Tensor) -> Result:
    """Do `work(*tensors)` where they lie; on the CPU, if their device has no memory for it."""
    try:
        return work(*tensors)
    except RuntimeError as error:
        if not is_out_of_memory(error) or all(tensor.device.type == "cpu" for tensor in tensors):
            raise
    torch.cuda.empty_cache()
    return work(*(tensor.cpu() for tensor in tensors))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Say whether an error means that there is no memory, in the words of torch or NVIDIA."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(words in text for words in NO_MEMORY)
