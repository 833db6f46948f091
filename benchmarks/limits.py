"""Measure this machine's arithmetic and bandwidth, a step's FLOPs, and processes' memory."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.device import cpu_name
from models.flops import unfused

PACKAGES = ("torch", "ray", "open_clip_torch", "timm", "optuna", "numpy", "scikit-learn", "pillow")
INTERVAL = 0.5  # seconds between two samples of memory


@dataclass(frozen=True)
class Machine:
    """The best speeds of one core.

    Attributes:
        flops: operations a second, in float32 matrix products of 2,048 x 2,048.
        bandwidth: bytes a second, reads and writes together, when copying 256 MB.
    """

    flops: float
    bandwidth: float

    def seconds(self, flops: float, moved: float = 0.0) -> float:
        """Return the least seconds for `flops` operations and `moved` bytes, done at once."""
        return max(flops / self.flops, moved / self.bandwidth)


def measured_machine() -> Machine:
    """Measure both speeds, on one thread."""
    torch.set_num_threads(1)
    a = torch.randn(2048, 2048)
    source = torch.randn(32 << 20)
    target = torch.empty_like(source)
    product = best_seconds(lambda: a @ a)
    copy = best_seconds(lambda: target.copy_(source))
    return Machine(2 * 2048**3 / product, 2 * source.nbytes / copy)


def best_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the fastest of five calls, in seconds."""
    return min(timeit.repeat(work, timer=time.process_time, repeat=5, number=1))


def counted_flops(step: Callable[[], object]) -> int:
    """Count the operations of `step()` in matrix products, convolutions and attention."""
    with unfused(), FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def describe() -> str:
    """Describe the machine and the versions, as a Markdown list."""
    memory = psutil.virtual_memory().total / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"- {os.cpu_count()} virtual cores ({cpu_name()}), {memory:.0f} GB, "
        f"{'a GPU' if torch.cuda.is_available() else 'no GPU'}\n"
        f"- Python {platform.python_version()}, {versions}"
    )


class Peak:
    """The largest number of bytes that `take` returned while the block ran; 0 before the first."""

    def __init__(self, take: Callable[[], int]) -> None:
        self.largest = 0
        self._take = take
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self.largest = max(self.largest, self._take())


def pss(root: int) -> int:
    """Return the bytes of a process and its descendants (PSS: shared pages count once)."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(root)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().pss
    return total


def run_python(command: list[str]) -> tuple[str, float, int]:
    """Run `python` with these arguments, and return its output, seconds, and peak bytes."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        with Peak(lambda: pss(process.pid)) as peak:
            output, _ = process.communicate()
    finally:
        process.kill()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output, time.perf_counter() - began, peak.largest
