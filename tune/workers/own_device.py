"""The device that Ray gave to this process."""

from __future__ import annotations

import os

import ray
import torch

from models.device import available_device

CLAIMED = "CLIP_SEARCH_CLAIMED_GPUS"
"""The environment variable of tests whose GPUs are not there: their work goes to the CPU."""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read once, by the first product of matrices


class NoGpuError(RuntimeError):
    """The GPU that Ray gave this process is not there."""


def own_device(deterministic: bool = False) -> str:
    """Name the GPU that Ray gave this process, held to its share of the memory, or the CPU.

    A `deterministic` process computes the same each time that it is given the same.

    Raises:
        NoGpuError: Ray gave one that torch does not see, as it has fallen off the bus, or its
            driver is too old. The process ends; on the CPU it would take days, and keep its slot.
    """
    share = given_share()
    if share and not torch.cuda.is_available() and CLAIMED not in os.environ:
        raise NoGpuError(
            f"no GPU here: Ray gave {os.environ.get('CUDA_VISIBLE_DEVICES', 'one')} on "
            f"{ray.util.get_node_ip_address()}, and torch {torch.__version__} sees none"
        )
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return available_device(share or 1.0)


def given_share() -> float:
    """Return the share of a GPU that Ray gave this process; 0 for none, or for a driver."""
    if not ray.is_initialized():
        return 0.0
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return 0.0
    share: float = context.get_assigned_resources().get("GPU", 0.0)
    return share
