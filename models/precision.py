"""Where a fit runs and what its matrix products run in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import get_args

import torch

from models.config import PrecisionName

CONTEXT = 1 << 30  # bytes of a GPU that a process takes before any tensor, and for its kernels


class Precision:
    """A device with automatic mixed precision.

    Args:
        device: "cpu", "cuda", "cuda:1", …
        name: `auto` is bfloat16 on GPUs that have it in hardware, float16 with a loss scaler on
            those that don't (Turing, Volta), float32 on CPUs. Weights and optimiser stay in
            float32.
    """

    def __init__(self, device: str, name: PrecisionName = "float32") -> None:
        if name not in get_args(PrecisionName):
            raise ValueError(f"precision {name!r}; allowed: {', '.join(get_args(PrecisionName))}")
        self.device = torch.device(device)
        self.name = self._resolved(name)
        self._dtype = getattr(torch, self.name)

    def _resolved(self, name: PrecisionName) -> PrecisionName:
        if name != "auto":
            return name
        if self.device.type != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"

    def autocast(self) -> AbstractContextManager[None]:
        enabled = self._dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=enabled)

    def scaler(self) -> torch.amp.GradScaler:
        """A loss scaler, at work in float16 alone."""
        return torch.amp.GradScaler(self.device.type, enabled=self._dtype == torch.float16)


def available_device(share: float = 1.0) -> str:
    """The GPU this process was given, or the CPU.

    Args:
        share: of the GPU's memory. Who would take more is told that there is none, instead of
            whoever asks next on the same GPU.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        tensors = max(share - CONTEXT / total, share / 2)  # the context is not counted
        torch.cuda.set_per_process_memory_fraction(tensors)
    return "cuda"
