"""Ray: a local one on loopback, or a running cluster joined by its address."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from errors import InputError, one_line
from search_spaces import ResourcesConfig
from tune.workers.machines import alive, slots_at
from tune.workers.ray_environment import set_ray_environment

ROOT = Path(__file__).resolve().parents[2]
# Parts of the checkout that workers on other machines do not need.
EXCLUDED = [".git", ".venv", "results", "docs", "benchmarks"]
EXCLUDED += [".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"]
MINIMUM_STORE = 200 << 20


@dataclass(frozen=True)
class Cluster:
    """The machines of a run, as they are now.

    Attributes:
        slot: resources of one trial.
        slots_at: how many trials each machine runs at once, by its id in Ray; none has 0.
        nodes, cpus, gpus: of all machines.
        dashboard: URL of Ray's dashboard, if it has one.
        grows: whether other machines may join, as in any cluster that this run did not start.
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
        """Trials that run at once."""
        return sum(self.slots_at.values())

    @property
    def hosts(self) -> int:
        """Machines with a slot; the head often has none."""
        return len(self.slots_at)

    def describe(self) -> str:
        """Say in a line what there is."""
        machines = "1 machine" if self.nodes == 1 else f"{self.nodes} machines"
        devices = f"{self.gpus} GPUs" if self.gpus else f"{self.cpus} CPUs, no GPU"
        return f"{machines}, {devices}: {self.slots} trials at a time"


@contextmanager
def connected(
    resources: ResourcesConfig, address: str | None, store_bytes: int
) -> Iterator[Cluster]:
    """Start a local Ray, or join the cluster at `address`; leave it at the end.

    The object store of a local Ray holds `store_bytes`.

    Raises:
        InputError: no cluster answers at the address, or no node has room for one trial.
    """
    started, dashboard = not ray.is_initialized(), None
    if started:
        terminate = signal.getsignal(signal.SIGTERM)
        dashboard = _init(address, store_bytes).dashboard_url
        signal.signal(signal.SIGTERM, terminate)  # Ray has replaced it
    try:
        yield _describe(resources, dashboard, grows=address is not None)
    finally:
        if started:
            ray.shutdown()


def _init(address: str | None, store_bytes: int) -> Any:
    """Start or join Ray; return its context."""
    set_ray_environment(loopback=address is None)  # for whoever has not done so before the import
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        _keep_token_private()
        options |= {
            "address": "local",  # whatever RAY_ADDRESS says, and whatever else runs here
            "include_dashboard": True,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": max(MINIMUM_STORE, store_bytes),
        }
        return ray.init(**options)
    _check_answers(address)
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:  # a submitted job has shipped its code
        options["runtime_env"] = {"working_dir": str(ROOT), "excludes": EXCLUDED}
    try:
        return ray.init(address=address, **options)
    except (ray.exceptions.RayError, ConnectionError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers ({one_line(error)}); one that asks for a "
            "token needs RAY_AUTH_MODE=token, and the token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        ) from None


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens; Ray would try it for minutes."""
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
    """Make a local Ray's token private: who reads it can run code as this user."""
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


def _describe(resources: ResourcesConfig, dashboard: str | None, grows: bool) -> Cluster:
    machines = [about["Resources"] for about in alive().values()]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    slot = {"CPU": resources.cpus_per_trial}
    if gpus:
        slot["GPU"] = resources.gpus_per_trial
    found = slots_at(slot)
    if not found:
        raise InputError(
            f"resources: a trial takes {slot}, which no machine of the cluster has free; "
            f"largest: {max(machine.get('CPU', 0) for machine in machines):g} CPUs, "
            f"{max(machine.get('GPU', 0) for machine in machines):g} GPUs"
        )
    return Cluster(
        slot=slot,
        slots_at=found,
        nodes=len(machines),
        cpus=int(sum(machine.get("CPU", 0) for machine in machines)),
        gpus=gpus,
        dashboard=f"http://{dashboard}" if dashboard else None,
        grows=grows,
    )
