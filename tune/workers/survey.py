"""What the machines of a cluster have, asked by a task on each."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ray
import torch

from data import ImageSource, UnreadableImageError
from errors import InputError
from models.config import PrecisionName
from models.device import Device, available_device, gpu_trouble
from records import NodeView
from tune.workers.cluster import Cluster, open_cluster
from tune.workers.gpus import EXCLUSIVE, local_gpus
from tune.workers.machines import alive, on_node
from tune.workers.private import open_to_all
from tune.workers.shipped import ROOT

SAMPLE = 50  # images that a machine tries until it has read one
BUSY = 60.0  # seconds to wait for a GPU that somebody else may hold; then it is not asked


@dataclass(frozen=True)
class Survey:
    """What the machines say of themselves.

    Attributes:
        unseen: those that see no image, one with its reason.
        exclusive: those with a GPU that serves one process at a time.
    """

    nodes: list[NodeView]
    unseen: dict[str, str]
    exclusive: Sequence[str] = ()

    def check(self, source: str) -> None:
        """Raise InputError if a machine sees none of the images of `source`."""
        if self.unseen:
            example = next(iter(self.unseen.values()))
            raise InputError(
                f"data.source: {source}: {', '.join(self.unseen)} can read no image, such as "
                f"{example}; every machine of the cluster needs them at the same path"
            )

    def check_share(self, slot: Mapping[str, float]) -> None:
        """Raise InputError if several trials share a GPU that serves one process at a time."""
        if self.exclusive and 0 < slot.get("GPU", 0.0) < 1:
            raise InputError(
                f"resources.gpus_per_trial: {slot['GPU']:g}, but the GPUs of "
                f"{', '.join(self.exclusive)} serve one process at a time (compute mode "
                f"{EXCLUSIVE}); allowed: 1, or start NVIDIA's MPS there"
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
        answers = ray.get([on_node(node, look).remote(source, sample) for node in nodes])
        find = ray.remote(num_cpus=0)(_open_folder)
        asked = [on_node(node, find).remote() for node in nodes]
        for about, found in zip(nodes.values(), ray.get(asked), strict=True):
            if found:
                raise InputError(open_cluster(about["NodeManagerAddress"], found))
    views, unseen, exclusive = [], {}, []
    for (node, about), (trouble, code, gpu, alone) in zip(nodes.items(), answers, strict=True):
        views.append(NodeView(node, about["NodeManagerAddress"], not trouble, code, gpu))
        if trouble:
            unseen[views[-1].address] = trouble
        if alone:
            exclusive.append(views[-1].address)
    return Survey(views, unseen, exclusive)


def _look(source: ImageSource, keys: tuple[str, ...]) -> tuple[str, str, int | None, bool]:
    """Return why no image can be read (nothing if one can), the folder of the code, and the GPUs.

    Of these, the bytes of the smallest, and whether any serves one process at a time.
    """
    trouble = ""
    for key in keys:
        if not (trouble := _trouble(source, key)):
            break
    return trouble, str(ROOT), *local_gpus()


def _open_folder() -> Path | None:
    return open_to_all(ROOT)


def _trouble(source: ImageSource, key: str) -> str:
    try:
        source.digest(key)
    except UnreadableImageError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Devices:
    """What the devices of trials have, which the driver may not have itself.

    Attributes:
        precision: what was asked for; for `auto` what all of them have in hardware.
        memory: bytes of a GPU that each machine gives to a trial, by its id in Ray. It is what
            torch sees: of a card in slices, one slice. Machines that did not answer are missing.
    """

    precision: PrecisionName
    memory: Mapping[str, int]

    def sized(self, nodes: Sequence[NodeView]) -> list[NodeView]:
        """Put in the views of the machines what torch sees."""
        return [replace(n, gpu_bytes=self.memory.get(n.id, n.gpu_bytes)) for n in nodes]


OTHERS = (
    "`make search TORCH_INDEX=URL` installs a torch for other GPUs and drivers (see PyTorch's "
    '"Get started"), or CUDA_VISIBLE_DEVICES= before the command runs it on CPUs'
)


def ask_devices(
    cluster: Cluster, name: PrecisionName, trouble: Callable[[], str] = gpu_trouble
) -> Devices:
    """Ask the devices of trials for their precision and memory.

    `trouble` says in a process with a GPU what is wrong with that.

    Raises:
        InputError: torch cannot use a GPU that Ray gives out, or it would emulate `name`.
    """
    if not cluster.gpus:
        return Devices(Device("cpu", name).precision, {})
    # One call a process: it would keep the GPU's memory.
    ask = ray.remote(num_cpus=0, num_gpus=cluster.slot["GPU"], max_calls=1)(_answer)
    asked = {on_node(node, ask).remote(name, trouble): node for node in cluster.slots_at}
    ray.wait([*asked], num_returns=1)
    ready, busy = ray.wait([*asked], num_returns=len(asked), timeout=BUSY)
    for task in busy:
        ray.cancel(task)
    answers = {asked[task]: answer for task, answer in zip(ready, ray.get(ready), strict=True)}
    if wrong := [answer for answer in answers.values() if isinstance(answer, str)]:
        raise InputError(wrong[0])
    resolved = {precision for precision, _ in answers.values()}
    return Devices(
        "float16" if "float16" in resolved else resolved.pop(),
        {node: memory for node, (_, memory) in answers.items() if memory},
    )


def resolved_precision(cluster: Cluster, name: PrecisionName) -> PrecisionName:
    """Find out what `auto` means on the devices of trials; see `ask_devices`."""
    return ask_devices(cluster, name).precision


def _answer(
    name: PrecisionName, trouble: Callable[[], str] = gpu_trouble
) -> tuple[PrecisionName, int] | str:
    """Return the precision of this process's device and its bytes, or what is wrong with it."""
    if found := trouble():
        address = ray.util.get_node_ip_address()
        return f"resources: Ray gives out a GPU that torch cannot use: {address}, {found}; {OTHERS}"
    try:
        precision = Device(available_device(), name).precision
    except InputError as error:
        return str(error)
    if not torch.cuda.is_available():
        return precision, 0
    return precision, torch.cuda.get_device_properties(0).total_memory
