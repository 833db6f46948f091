"""What the machines of a cluster have, asked by a task on each, or by a late one's first work."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import ray
import torch
from rich.filesize import decimal

from data import ImageSource, UnreadableImageError
from errors import InputError
from models.config import PrecisionName
from models.device import Device, available_device, gpu_trouble
from records import NodeView
from tune.workers.cluster import Cluster, open_cluster
from tune.workers.gpus import EXCLUSIVE, Gpus, local_gpus
from tune.workers.machines import UnfitMachineError, alive, answers, ask, on_node
from tune.workers.own_device import CLAIMED, given_share
from tune.workers.private import open_to_all
from tune.workers.shared_folders import Mark, SharedFolder
from tune.workers.shipped import ROOT

SAMPLE = 50  # images that a machine tries until it has read one
BUSY = 60.0  # seconds to wait for a GPU that somebody else may hold; then it is not asked


@dataclass(frozen=True)
class Survey:
    """What the machines say of themselves.

    Attributes:
        unseen: those that see no image, one with its reason.
        exclusive: those with a GPU that serves one process at a time.
        blind: folders, each with the machines that run trials and do not see it.
        rooms: bytes that copies of features may take on the own disk of those that run trials.
    """

    nodes: list[NodeView]
    unseen: dict[str, str]
    exclusive: Sequence[str] = ()
    blind: Sequence[tuple[SharedFolder, Sequence[str]]] = ()
    rooms: Mapping[str, int] = field(default_factory=dict)

    def short_of_room(self, folder: Path, needed: int) -> Iterator[str]:
        """Say on which machines a `folder` has no room for the bytes `needed`."""
        for address, room in self.rooms.items():
            if room < needed:
                yield (
                    f"features.local: {folder} at {address} takes {decimal(room)} of the "
                    f"{decimal(needed)} that are read from disk; the rest is read from "
                    "features.cache"
                )

    def check(self, source: str) -> None:
        """Raise InputError if a machine sees none of the images of `source`, or lacks a folder."""
        if self.unseen:
            example = next(iter(self.unseen.values()))
            raise InputError(
                f"data.source: {source}: {', '.join(self.unseen)} can read no image, such as "
                f"{example}; every machine of the cluster needs them at the same path"
            )
        if self.blind:
            raise InputError("; ".join(folder.unseen_by(names) for folder, names in self.blind))

    def check_share(self, slot: Mapping[str, float]) -> None:
        """Raise InputError if several trials share a GPU that serves one process at a time."""
        if self.exclusive and 0 < slot.get("GPU", 0.0) < 1:
            raise InputError(
                f"resources.gpus_per_trial: {slot['GPU']:g}, but the GPUs of "
                f"{', '.join(self.exclusive)} serve one process at a time (compute mode "
                f"{EXCLUSIVE}); allowed: 1, or start NVIDIA's MPS there"
            )


class _Answer(NamedTuple):
    """What a machine says: why it reads no image (nothing if it does), and the folder of its code.

    Then the numbers of the marks that it does not see, its GPUs, the folder in which any user
    could change the code, if there is one, and the bytes that copies of features may take.
    """

    trouble: str
    code: str
    blind: tuple[int, ...]
    gpus: Gpus
    open_folder: Path | None
    room: int = 0


def survey(
    cluster: Cluster,
    source: ImageSource,
    keys: Sequence[str],
    marks: Sequence[Mark] = (),
    room: Callable[[], int] | None = None,
) -> Survey:
    """Ask every machine whether it sees any of a few images `keys`, and what else it has.

    Those that run trials must see the `marks`, and tell how much `room` there is on their own disk.
    A machine that dies meanwhile is not there.

    Raises:
        InputError: on a machine of a cluster any user could change the code that it runs.
    """
    nodes, sample = alive(), sample_of(keys)
    if len(nodes) == 1 and not cluster.grows:  # this process is on it, and runs its code
        found_on = {next(iter(nodes)): _look(source, sample, (), room)._replace(open_folder=None)}
    else:
        found_on = ask(nodes, ray.remote(num_cpus=0)(_look), source, sample, tuple(marks), room)
    views, unseen, exclusive, rooms = [], {}, [], {}
    blind: dict[int, list[str]] = {}
    for node, found in found_on.items():
        address = nodes[node]["NodeManagerAddress"]
        if found.open_folder:
            raise InputError(open_cluster(address, found.open_folder))
        views.append(NodeView(node, address, not found.trouble, found.code, found.gpus.memory))
        if found.trouble:
            unseen[address] = found.trouble
        if found.gpus.exclusive:
            exclusive.append(address)
        if node not in cluster.slots_at:  # no trial runs on a head without room
            continue
        for number in found.blind:
            blind.setdefault(number, []).append(address)
        if room is not None:
            rooms[address] = found.room
    lacking = [(marks[number].folder, machines) for number, machines in sorted(blind.items())]
    return Survey(views, unseen, exclusive, lacking, rooms)


def sample_of(keys: Sequence[str]) -> tuple[str, ...]:
    """Choose a few images; a machine that sees any of them sees them all."""
    return tuple(random.Random(0).sample(keys, min(SAMPLE, len(keys))))


def _look(
    source: ImageSource,
    keys: tuple[str, ...],
    marks: tuple[Mark, ...],
    room: Callable[[], int] | None = None,
) -> _Answer:
    """Answer on the machine that is asked."""
    trouble = ""
    for key in keys:
        if not (trouble := _trouble(source, key)):
            break
    blind = tuple(number for number, mark in enumerate(marks) if not mark.seen())
    found = room() if room else 0
    return _Answer(trouble, str(ROOT), blind, local_gpus(), open_to_all(ROOT), found)


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
    task = ray.remote(num_cpus=0, num_gpus=cluster.slot["GPU"], max_calls=1)(_answer)
    asked = {on_node(node, task).remote(name, trouble): node for node in cluster.slots_at}
    ray.wait([*asked], num_returns=1)
    ready, busy = ray.wait([*asked], num_returns=len(asked), timeout=BUSY)
    for waiting in busy:
        ray.cancel(waiting)
    told = answers({done: asked[done] for done in ready})
    if wrong := [answer for answer in told.values() if isinstance(answer, str)]:
        raise InputError(wrong[0])
    resolved = {precision for precision, _ in told.values()}
    return Devices(
        "float16" if "float16" in resolved else resolved.pop(),
        {node: memory for node, (_, memory) in told.items() if memory},
    )


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


@dataclass(frozen=True)
class Admission:
    """What a machine that joins in the midst of a run must have, as the first ones have.

    Attributes:
        known: the machines that were asked at the start.
        source, keys: some of the images; it must see one of them.
        marks: in the folders that it must see.
        precision: what its GPU must compute in, if it has one.
    """

    known: frozenset[str]
    source: ImageSource
    keys: tuple[str, ...]
    marks: tuple[Mark, ...]
    precision: PrecisionName

    def check(self) -> None:
        """Raise UnfitMachineError if the machine of this process came later, and lacks something.

        A process calls it before its first work.
        """
        node = ray.get_runtime_context().get_node_id()
        if node not in self.known and (reason := self._lacking()):
            raise UnfitMachineError(node, ray.util.get_node_ip_address(), reason)

    def _lacking(self) -> str:
        found = _look(self.source, self.keys, self.marks)
        if found.open_folder:
            return f"every user there can change the code that it runs, in {found.open_folder}"
        if found.trouble:
            return f"it can read no image, such as {found.trouble}"
        if found.blind:
            unseen = (self.marks[number].folder.storage.path for number in found.blind)
            return f"it does not see {', '.join(unseen)}"
        if not given_share() or CLAIMED in os.environ:
            return ""
        answer = _answer(self.precision)
        return answer if isinstance(answer, str) else ""
