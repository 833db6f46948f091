"""What the machines of a cluster have, asked by a task on each."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data import ImageSource, UnreadableImageError
from errors import InputError, one_line
from models.config import PrecisionName
from models.device import Device, available_device
from records import NodeView
from tune.workers.cluster import ROOT, Cluster, open_cluster
from tune.workers.machines import alive
from tune.workers.private import open_to_all

SAMPLE = 50  # images that a machine tries until it has read one
BUSY = 60.0  # seconds to wait for a GPU that somebody else may hold; then it is not asked


@dataclass(frozen=True)
class Survey:
    """What the machines say of themselves; of those that see no image, one with its reason."""

    nodes: list[NodeView]
    unseen: dict[str, str]

    def check(self, source: str) -> None:
        """Raise InputError if a machine sees none of the images of `source`."""
        if self.unseen:
            example = next(iter(self.unseen.values()))
            raise InputError(
                f"data.source: {source}: {', '.join(self.unseen)} can read no image, such as "
                f"{example}; every machine of the cluster needs them at the same path"
            )


def survey(cluster: Cluster, source: ImageSource, keys: Sequence[str]) -> Survey:
    """Ask every machine whether it sees any of a few images `keys`, and what else it has.

    Raises:
        InputError: on a machine of a cluster any user could change the code that it runs.
    """
    nodes = alive()
    sample = tuple(random.Random(0).sample(keys, min(SAMPLE, len(keys))))
    if len(nodes) == 1 and not cluster.grows:  # this process is on it, and runs its code
        answers = [_look(source, sample)]
    else:
        look = ray.remote(num_cpus=0)(_look)
        answers = ray.get([_on(node, look).remote(source, sample) for node in nodes])
        find = ray.remote(num_cpus=0)(_open_folder)
        asked = [_on(node, find).remote() for node in nodes]
        for about, found in zip(nodes.values(), ray.get(asked), strict=True):
            if found:
                raise InputError(open_cluster(about["NodeManagerAddress"], found))
    views, unseen = [], {}
    for (node, about), (trouble, code, gpu) in zip(nodes.items(), answers, strict=True):
        views.append(NodeView(node, about["NodeManagerAddress"], not trouble, code, gpu))
        if trouble:
            unseen[views[-1].address] = trouble
    return Survey(views, unseen)


def _on(node: str, task: Any) -> Any:
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _look(source: ImageSource, keys: tuple[str, ...]) -> tuple[str, str, int | None]:
    """Return why no image can be read (nothing if one can), the folder of the code, GPU bytes."""
    trouble = ""
    for key in keys:
        if not (trouble := _trouble(source, key)):
            break
    return trouble, str(ROOT), _gpu_bytes()


def _open_folder() -> Path | None:
    return open_to_all(ROOT)


def _gpu_bytes() -> int | None:
    # By the driver's own tool: Ray hides GPUs from a task that takes none.
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return min(int(line) for line in answer.stdout.split()) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _trouble(source: ImageSource, key: str) -> str:
    try:
        source.digest(key)
    except UnreadableImageError as error:
        return str(error)
    return ""


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
