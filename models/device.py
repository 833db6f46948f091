"""Where a fit runs, and the type that its matrix products run in."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch

from errors import InputError, one_line
from models.config import PrecisionName

CONTEXT = 1 << 30  # bytes of a GPU that a process takes before any tensor, and for its kernels

PIECES = 0.2  # of a GPU's free memory: it may lie scattered


class Device:
    """A device ("cpu", "cuda", "cuda:1", …) with automatic mixed precision.

    `auto` is bfloat16 on GPUs that have it in hardware, float16 with a loss scaler on those that
    don't (Turing, Volta), and float32 on CPUs; `self.precision` is never `auto`. Weights and
    optimizer stay in float32.

    Raises:
        InputError: bfloat16 is asked for on a GPU that would emulate it.
    """

    def __init__(self, name: str, precision: PrecisionName = "float32") -> None:
        self.torch = torch.device(name)
        on_gpu = self.torch.type == "cuda"
        asks = on_gpu and precision in ("auto", "bfloat16")
        has_bfloat16 = asks and torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "auto":
            half: PrecisionName = "bfloat16" if has_bfloat16 else "float16"
            precision = half if on_gpu else "float32"
        elif asks and not has_bfloat16:
            raise InputError(
                "model.precision: bfloat16 is slower than float32 on a GPU here, which has to "
                "emulate it; allowed: auto, float16, float32"
            )
        self.precision = precision
        self._dtype: torch.dtype = getattr(torch, precision)

    def autocast(self) -> AbstractContextManager[None]:
        """Run matrix products in `precision` within the block."""
        enabled = self._dtype != torch.float32
        return torch.autocast(self.torch.type, dtype=self._dtype, enabled=enabled)

    def product_type(self) -> torch.dtype:
        """Return the type that autocast computes products of float32 in."""
        with self.autocast():
            one = torch.ones(1, 1, device=self.torch)
            return (one @ one).dtype

    def watch_memory(self) -> None:
        """Have `spare` count from here on."""
        if self.torch.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.torch)

    def spare(self, twice: bool = False) -> int:
        """Return the bytes of this process's share of a GPU that no tensor was ever in; 0 on CPUs.

        Those that other processes have taken meanwhile are none of them, nor is the part `PIECES`.
        With `twice`, nor is what may be taken as well if work has memory of its own.
        """
        if self.torch.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self.torch)
        own = torch.cuda.get_per_process_memory_fraction(self.torch) * total
        most = min(own, free + torch.cuda.memory_reserved(self.torch))
        used = torch.cuda.max_memory_allocated(self.torch)
        if twice:
            used += used - torch.cuda.memory_allocated(self.torch)
        return max(0, int((1 - PIECES) * (most - used)))

    def wait(self) -> None:
        """Wait until the device has done all that it was asked for."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)

    def describe(self) -> str:
        """Name the GPU; or the CPU, and how many threads of it compute."""
        if self.torch.type == "cuda":
            return torch.cuda.get_device_name(self.torch)
        threads = torch.get_num_threads()
        return f"{threads} thread{'s' * (threads > 1)} of {cpu_name()}"

    def scaler(self) -> torch.amp.GradScaler:
        """Make a loss scaler, which does something in float16 alone."""
        return torch.amp.GradScaler(self.torch.type, enabled=self._dtype == torch.float16)


def cpu_name() -> str:
    """Name the processor, as Linux does; by its architecture elsewhere."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


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


def usable_device() -> str:
    """Name the GPU if torch can compute on it, or the CPU."""
    return "cpu" if not torch.cuda.is_available() or gpu_trouble() else "cuda"


def gpu_trouble() -> str:
    """Say what is wrong with the GPU of this process; nothing if torch can use it."""
    try:
        # Fails where the driver is too old for this torch, or torch for this GPU.
        torch.ones(1, device="cuda").add(1).item()
    except (RuntimeError, AssertionError) as error:
        return f"torch {torch.__version__}: {one_line(error)}"
    return ""
