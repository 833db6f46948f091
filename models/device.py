"""Where a fit runs, and the type that its matrix products run in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from models.config import PrecisionName

CONTEXT = 1 << 30  # bytes of a GPU that a process takes before any tensor, and for its kernels


class Device:
    """A device ("cpu", "cuda", "cuda:1", …) with automatic mixed precision.

    `auto` is bfloat16 on GPUs that have it in hardware, float16 with a loss scaler on those that
    don't (Turing, Volta), and float32 on CPUs; `self.precision` is never `auto`. Weights and
    optimizer stay in float32.
    """

    def __init__(self, name: str, precision: PrecisionName = "float32") -> None:
        self.torch = torch.device(name)
        if precision == "auto" and self.torch.type != "cuda":
            precision = "float32"
        elif precision == "auto":
            bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bfloat16" if bfloat16 else "float16"
        self.precision = precision
        self._dtype: torch.dtype = getattr(torch, precision)

    def autocast(self) -> AbstractContextManager[None]:
        """Run matrix products in `precision` within the block."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self.torch.type, dtype=self._dtype, enabled=enabled)

    def scaler(self) -> torch.amp.GradScaler:
        """Make a loss scaler, which does something in float16 alone."""
        return torch.amp.GradScaler(self.torch.type, enabled=self._dtype == torch.float16)


def available_device(share: float = 1.0) -> str:
    """Name the GPU this process was given, or the CPU.

    A process that exceeds its `share` of the GPU's memory gets the out-of-memory error itself, and
    not another one on the same GPU.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        tensors = max(share - CONTEXT / total, share / 2)  # the context is not counted
        torch.cuda.set_per_process_memory_fraction(tensors)
    return "cuda"
