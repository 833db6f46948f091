"""What does not fit a device at once is done in portions of a size that does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


class MicroBatches:
    """A portion's size, halved whenever the device has no memory for one.

    It stays halved: what did not fit once will not fit the next time.

    Args:
        size: to begin with.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def fitted(self, work: Callable[[int], Result]) -> Result:
        """`work(size)`, started over with half the size for as long as memory runs out.

        Raises:
            torch.OutOfMemoryError: it does so with portions of one.
        """
        while True:
            try:
                return work(self.size)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
            # Here, not above: the error's frames would hold on to what filled the memory.
            self.size = -(-self.size // 2)
            torch.cuda.empty_cache()
