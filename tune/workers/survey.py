"""What the machines of a cluster have, asked by a task on each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data import ImageSource, UnreadableImageError
from errors import InputError, one_line
from models.config import PrecisionName
from models.device import Device, available_device
from records import NodeView
from tune.workers.cluster import ROOT, Cluster
from tune.workers.machines import alive

SAMPLE = 5  # images that a machine tries to read
BUSY = 60.0  # seconds to wait for a GPU that somebody else may hold; then it is not asked


def survey(cluster: Cluster, source: ImageSource, keys: Sequence[str]) -> list[NodeView]:
    """Ask every machine whether it sees the images `keys`, and what else it has.

    A few images are enough to know: one may be broken, hardly all of them.
    """
    nodes, sample = alive(), tuple(keys[:SAMPLE])
    if len(nodes) == 1 and not cluster.grows:  # this process is on it, and runs its code
        answers = [_look(source, sample)]
    else:
        look = ray.remote(num_cpus=0)(_look)
        answers = ray.get([_on(node, look).remote(source, sample) for node in nodes])
    return [
        NodeView(node, about["NodeManagerAddress"], *answer)
        for (node, about), answer in zip(nodes.items(), answers, strict=True)
    ]


def _on(node: str, task: Any) -> Any:
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _look(source: ImageSource, keys: tuple[str, ...]) -> tuple[bool, str, int | None]:
    return any(_readable(source, key) for key in keys), str(ROOT), _gpu_bytes()


def _gpu_bytes() -> int | None:
    # By the driver's own tool: Ray hides GPUs from a task that takes none.
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return min(int(line) for line in answer.stdout.split()) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _readable(source: ImageSource, key: str) -> bool:
    try:
        source.digest(key)
    except UnreadableImageError:
        return False
    return True


def gpu_trouble() -> str:
    """Say what is wrong with the GPU of this process; nothing if torch can use it."""
    try:
        # Fails where the driver is too old for this torch, or torch for this GPU.
        torch.ones(1, device="cuda").add(1).item()
    except (RuntimeError, AssertionError) as error:
        return f"{ray.util.get_node_ip_address()}, torch {torch.__version__}: {one_line(error)}"
    return ""


def resolved_precision(
    cluster: Cluster, name: PrecisionName, trouble: Callable[[], str] = gpu_trouble
) -> PrecisionName:
    """Find out what `auto` means on the devices of trials, which the driver may not have.

    Where machines differ, it is what all of them have in hardware. `trouble` says in a process with
    a GPU what is wrong with that.

    Raises:
        InputError: torch cannot use a GPU that Ray gives out.
    """
    if not cluster.gpus:
        return Device("cpu", name).precision
    # One call a process: it would keep the GPU's memory.
    ask = ray.remote(num_cpus=0, num_gpus=cluster.slot["GPU"], max_calls=1)(_resolve)
    asked = [_on(node, ask).remote(name, trouble) for node in cluster.slots_at]
    ray.wait(asked, num_returns=1)
    ready, busy = ray.wait(asked, num_returns=len(asked), timeout=BUSY)
    for task in busy:
        ray.cancel(task)
    answers: list[tuple[PrecisionName, str]] = ray.get(ready)
    if troubles := [trouble for _, trouble in answers if trouble]:
        raise InputError(f"resources: Ray gives out a GPU that torch cannot use: {troubles[0]}")
    resolved = {found for found, _ in answers}
    return "float16" if "float16" in resolved else resolved.pop()


def _resolve(name: PrecisionName, trouble: Callable[[], str]) -> tuple[PrecisionName, str]:
    return Device(available_device(), name).precision, trouble()
