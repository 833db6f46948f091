"""The GPUs of a machine, as their driver's own tool tells of them, and how trials share one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

EXCLUSIVE = "Exclusive_Process"  # the compute mode of a GPU that serves one process at a time
SHARES = (8, 4, 2)  # trials that `auto` lets share a GPU, at most and at least


class Gpus(NamedTuple):
    """The bytes of a machine's smallest GPU, if known, and whether any serves one process only."""

    memory: int | None
    exclusive: bool


def local_gpus() -> Gpus:
    """Ask about the GPUs of this machine; Ray hides them from a task that takes none."""
    query = ["nvidia-smi", "--query-gpu=memory.total,compute_mode", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return Gpus(None, False)
    exclusive = EXCLUSIVE in answer.stdout and not _served_together()
    try:
        memory = min(int(line.split(",")[0]) for line in answer.stdout.splitlines()) << 20
    except ValueError:  # it does not know
        return Gpus(None, exclusive)
    return Gpus(memory, exclusive)


def _served_together() -> bool:
    """Whether NVIDIA's Multi-Process Service runs here, through which processes share a GPU."""
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    return (folder / "control").exists()


def slices() -> int | None:
    """Count the slices of cards (MIG) that are named to this process; None where Ray is to look.

    Ray would count their cards.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = [name for name in named if name.strip().startswith("MIG-")]
    return len(found) or None


def room_for_tensors(memory: float) -> float:
    """Return the bytes that tensors may take of a process's share of a GPU."""
    from models.device import CONTEXT  # torch waits: each trial's process loads this file

    return max(memory - CONTEXT, memory / 2)


def auto_share(need: int, gpus: Gpus, trials_by_cpu: float) -> float:
    """Choose the share of a GPU that a trial gets: the smallest in which the largest trial fits.

    One small trial leaves a GPU idle while Python launches its operations, but each needs a core.

    Args:
        need: bytes that the largest trial takes.
        gpus: those of the machine; where their memory is not known, trials have them alone.
        trials_by_cpu: for how many trials to a GPU the machine has cores.
    """
    if gpus.memory is None or gpus.exclusive:
        return 1.0
    for count in SHARES:
        if count <= trials_by_cpu and need <= room_for_tensors(gpus.memory / count):
            return 1 / count
    return 1.0
