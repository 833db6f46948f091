"""Ray: a local one on loopback, or a running cluster joined by its address."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from search_spaces.schema import ResourcesConfig

ROOT = Path(__file__).resolve().parents[2]
# What workers of another machine don't need of the checkout.
EXCLUDED = [
    *(".git", ".venv", "results", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    *(".hypothesis", "docs", "benchmarks"),
]
MINIMUM_STORE = 200 << 20
NO_MACHINE = 900.0  # seconds without any; an autoscaler has brought another by then
BUSY = 60.0  # seconds that a GPU may be somebody else's before it is not asked
CLAIMED = "CLIP_SEARCH_CLAIMED_GPUS"  # set where GPUs are claimed that are none, in tests


@dataclass(frozen=True)
class Cluster:
    """The machines of a run. A slot is what one trial takes; `slots` fit at once, as it is now.

    `slots_at` has those of each node that has any, by its id in Ray. It `grows` where it is not
    this machine alone: others may join it, by an autoscaler too.
    """

    slot: dict[str, float]
    slots_at: Mapping[str, int]
    nodes: int
    cpus: int
    gpus: int
    dashboard: str | None
    grows: bool = False

    @property
    def slots(self) -> int:
        return sum(self.slots_at.values())

    @property
    def hosts(self) -> int:
        """Machines with room for a slot; a head often has none."""
        return len(self.slots_at)

    @property
    def has_gpus(self) -> bool:
        return self.gpus > 0

    def describe(self) -> str:
        machines = "1 machine" if self.nodes == 1 else f"{self.nodes} machines"
        devices = f"{self.gpus} GPUs" if self.gpus else f"{self.cpus} CPUs, no GPU"
        return f"{machines}, {devices}: {self.slots} trials at a time"


@contextmanager
def connected(
    resources: ResourcesConfig, address: str | None, store_bytes: int
) -> Iterator[Cluster]:
    """Start or join Ray, and leave it again.

    Args:
        resources: what a trial takes.
        address: of a running cluster; a local Ray is started without.
        store_bytes: what the object store of a local Ray must hold.

    Raises:
        InputError: no cluster answers at the address, or no node has room for one trial.
    """
    started = not ray.is_initialized()
    if started:
        terminate = signal.getsignal(signal.SIGTERM)
        _init(address, store_bytes)
        signal.signal(signal.SIGTERM, terminate)  # Ray puts one of its own in its place
    try:
        yield _describe(resources, grows=address is not None)
    finally:
        if started:
            ray.shutdown()


def _init(address: str | None, store_bytes: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        _keep_token_private()
        options |= {
            "address": "local",  # whatever RAY_ADDRESS says, and whatever else runs here
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": max(MINIMUM_STORE, store_bytes),
        }
        ray.init(**options)
        return
    _check_answers(address)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # a submitted job has shipped its code
        options["runtime_env"] = {"working_dir": str(ROOT), "excludes": EXCLUDED}
    try:
        ray.init(address=address, **options)
    except (ray.exceptions.RayError, ConnectionError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers ({one_line(error)}); one that asks for a "
            "token needs RAY_AUTH_MODE=token, and the token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        ) from None


def _check_answers(address: str) -> None:
    """Where nothing listens Ray tries again for minutes, in words of its own."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/\s\]]+)\]?:(\d+)", address)
    if not place:  # "auto"
        return
    try:
        port = int(place[2])
        if port > 65535:  # the C library would take what is left of it in 16 bits
            raise OSError(f"no port {port}")
        socket.create_connection((place[1], port), timeout=10).close()
    except OSError as error:
        raise InputError(
            f"--address {address}: nothing answers there ({one_line(error)}); needed is HOST:PORT "
            "of a running Ray cluster, or auto on one of its machines"
        ) from None


def _keep_token_private() -> None:
    """Whoever reads a local Ray's token runs code as us; a file made by Ray is for all to read."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # a home that cannot be written to: Ray says so itself
        path.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(32))
        path.chmod(0o600)


def _describe(resources: ResourcesConfig, grows: bool) -> Cluster:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    slot = {"CPU": resources.cpus_per_trial}
    if gpus:
        slot["GPU"] = resources.gpus_per_trial
    slots_at = _slots_at(slot)
    if not slots_at:
        raise InputError(
            f"resources: a trial takes {slot}, which no machine of the cluster has free; "
            f"largest: {max(node.get('CPU', 0) for node in nodes):g} CPUs, "
            f"{max(node.get('GPU', 0) for node in nodes):g} GPUs"
        )
    dashboard = ray._private.worker.get_dashboard_url()
    return Cluster(
        slot=slot,
        slots_at=slots_at,
        nodes=len(nodes),
        cpus=int(sum(node.get("CPU", 0) for node in nodes)),
        gpus=gpus,
        dashboard=f"http://{dashboard}" if dashboard else None,
        grows=grows,
    )


def slots_now(slot: dict[str, float]) -> int:
    """Slots of the machines that are alive now, free or not."""
    return sum(_slots_at(slot).values())


def _slots_at(slot: dict[str, float]) -> dict[str, int]:
    """Slots of each machine that is alive and has any."""
    found = {n["NodeID"]: _slots(n["Resources"], slot) for n in ray.nodes() if n["Alive"]}
    return {node: slots for node, slots in found.items() if slots}


class LostMachines:
    """Ends a run whose last machine has gone: Ray would wait for another for ever.

    Args:
        slot: what a machine must have, free or not.
    """

    def __init__(self, slot: dict[str, float]) -> None:
        self._slot = slot
        self._since: float | None = None

    def check(self, all_wait: bool) -> None:
        """To be called now and then, with whether all that is wanted waits for a machine.

        Raises:
            InputError: it has for long, and none is there; one that is busy is waited for.
        """
        now = time.monotonic()
        if not all_wait:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > NO_MACHINE:
            if slots_now(self._slot):
                self._since = now
                return
            raise InputError(
                f"--address: no machine has had room for a trial for {NO_MACHINE:g} s; "
                "what was done is kept: start one, then --resume"
            )


def _slots(node: dict[str, float], slot: dict[str, float]) -> int:
    """Slots on one node; a share of a GPU never straddles two."""
    by_cpu = int(node.get("CPU", 0) / slot["CPU"] + 1e-9)
    share = slot.get("GPU")
    if share is None:
        return by_cpu
    return min(by_cpu, int(node.get("GPU", 0)) * int(1 / share + 1e-9))


@dataclass(frozen=True)
class NodeView:
    """What one machine of the cluster says of itself.

    Attributes:
        id: by which Ray knows it.
        code: the folder its workers import this project from.
        gpu_bytes: memory of its smallest GPU, if it has any and can tell.
    """

    id: str
    address: str
    sees_images: bool
    code: str
    gpu_bytes: int | None


def survey(cluster: Cluster, source: ImageSource, keys: Sequence[str]) -> list[NodeView]:
    """Ask every node whether it can read any of the images `keys`, and what else it has."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1 and not cluster.grows:  # this process is on it, and runs its code
        return [_view(nodes[0], _look(source, tuple(keys)))]
    look = ray.remote(_look)
    asked = [
        look.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(source, tuple(keys))
        for node in nodes
    ]
    answers = zip(nodes, ray.get(asked), strict=True)
    return [_view(node, answer) for node, answer in answers]


def _view(node: dict[str, Any], answer: tuple[bool, str, int | None]) -> NodeView:
    return NodeView(node["NodeID"], node["NodeManagerAddress"], *answer)


def _look(source: ImageSource, keys: tuple[str, ...]) -> tuple[bool, str, int | None]:
    return any(_readable(source, key) for key in keys), str(ROOT), _gpu_bytes()


def _gpu_bytes() -> int | None:
    # By the driver's own tool: Ray hides GPUs from a task that takes none.
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        return min(int(line) for line in told.stdout.split()) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _readable(source: ImageSource, key: str) -> bool:
    try:
        source.digest(key)
    except UnreadableImageError:
        return False
    return True


def resolved_precision(cluster: Cluster, name: PrecisionName) -> PrecisionName:
    """What `auto` means on the devices that trials get, which the driver may not have.

    Where machines differ, it is what all of them have in hardware.

    Raises:
        InputError: torch cannot use a GPU that Ray gives out.
    """
    if not cluster.has_gpus:
        return Device("cpu", name).precision
    # One call a process: it would keep the GPU's memory.
    ask = ray.remote(num_cpus=0, num_gpus=cluster.slot["GPU"], max_calls=1)(_resolve)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            name
        )
        for node in cluster.slots_at
    ]
    ray.wait(asked, num_returns=1)
    ready, busy = ray.wait(asked, num_returns=len(asked), timeout=BUSY)  # others may hold its GPUs
    for task in busy:
        ray.cancel(task)
    answers: list[tuple[PrecisionName, str]] = ray.get(ready)
    if troubles := [trouble for _, trouble in answers if trouble]:
        raise InputError(f"resources: Ray gives out a GPU that torch cannot use: {troubles[0]}")
    resolved = {found for found, _ in answers}
    return "float16" if "float16" in resolved else resolved.pop()


def _resolve(name: PrecisionName) -> tuple[PrecisionName, str]:
    """The precision here, and what is wrong with the GPU, if anything is."""
    trouble = ""
    if not os.environ.get(CLAIMED):
        try:
            # Fails where the driver is too old for this torch, or torch for this GPU.
            torch.ones(1, device="cuda").add(1).item()
        except (RuntimeError, AssertionError) as error:
            where = ray.util.get_node_ip_address()
            trouble = f"{where}, torch {torch.__version__}: {one_line(error)}"
    return Device(available_device(), name).precision, trouble
