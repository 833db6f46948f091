"""Ray: a local one on loopback, or a running cluster joined by its address."""

from __future__ import annotations

import logging
import math
import os
import re
import resource
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_ray_address_file

from errors import InputError, one_line
from search_spaces import ResourcesConfig
from terminal import Terminal, say
from tune.workers.gpus import auto_share, local_gpus, slices
from tune.workers.machines import alive, ask, slots_at
from tune.workers.private import open_to_all, private_folder
from tune.workers.ray_environment import set_ray_environment
from tune.workers.session import processes_of, remove
from tune.workers.shipped import ROOT, shipped_code

MINIMUM_STORE = 200 << 20
FILES, WANTED = 1024, 65536  # open at once in each of Ray's processes: at least, and at most
KEPT = "kept"  # marks the folder of a Ray whose logs are to stay
OPEN = "warning: RAY_AUTH_MODE is {}, not token: whoever reaches Ray's ports can run code as you"


@dataclass(frozen=True)
class Cluster:
    """The machines of a run, as they are now.

    Attributes:
        slot: resources of one trial.
        slots_at: how many trials each machine runs at once, by its id in Ray; none has 0.
        nodes, cpus, gpus: of all machines.
        dashboard: URL of Ray's dashboard, if it has one.
        grows: whether other machines may join, as in any cluster that this run did not start.
        session: folder of the files of a Ray that this run started.
        store: bytes of the smallest object store; what is put in one may be fetched to each.
    """

    slot: dict[str, float]
    slots_at: Mapping[str, int]
    nodes: int
    cpus: int
    gpus: int
    dashboard: str | None
    grows: bool = False
    session: Path | None = None
    store: float = math.inf

    def keep_logs(self) -> Path | None:
        """Keep the files of this run's own Ray when it ends; return the folder of its logs."""
        if self.session is None:
            return None
        (self.session / KEPT).touch()
        return self.session / "logs"

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return sum(self.slots_at.values())

    def describe(self) -> str:
        """Say in a line what there is."""
        machines = "1 machine" if self.nodes == 1 else f"{self.nodes} machines"
        devices = f"{self.gpus} GPUs" if self.gpus else f"{self.cpus} CPUs, no GPU"
        return f"{machines}, {devices}: {self.slots} trials at a time"


@contextmanager
def connected(
    resources: ResourcesConfig,
    address: str | None,
    store_bytes: int,
    need: Callable[[], int] = lambda: 0,
) -> Iterator[Cluster]:
    """Start a local Ray, or join the cluster at `address`; leave it at the end.

    `need` returns the bytes of a GPU that the largest trial takes, for `gpus_per_trial: auto`. A
    Ray that this process has started or joined before is used, and stays. The object store of a
    local Ray holds `store_bytes`. Its files go with it, unless the block fails or calls
    `keep_logs`: they may say why.

    Raises:
        InputError: Ray does not start here, no cluster answers at the address, others can change
            the code that it runs, workers cannot import this project, or no node has room for one
            trial.
    """
    if ray.is_initialized():
        _check_imports()
        with _silent_logs():
            yield _describe(resources, None, address is not None, need)
        return
    terminate = signal.getsignal(signal.SIGTERM)
    context = _start(store_bytes) if address is None else _join(address)
    _on_sigterm(terminate)  # Ray has replaced it
    session = Path(context.address_info["session_dir"]) if address is None else None
    with _silent_stdout(), _left(terminate, session):
        _check_closed(address, context.address_info)
        if (mode := os.environ.get("RAY_AUTH_MODE", "unset").lower()) != "token":  # Ray may set it
            say(Terminal(stderr=True), OPEN.format(mode))
        yield _describe(resources, context.dashboard_url, address is not None, need, session)


@contextmanager
def _left(terminate: Any, session: Path | None) -> Iterator[None]:
    """Leave Ray after the block; its files go too, unless the block fails or has them kept."""
    failed = True
    try:
        yield
        failed = False
    except (InputError, KeyboardInterrupt):
        failed = False
        raise
    finally:
        processes = processes_of(session) if session else []
        ray.shutdown()
        _on_sigterm(terminate)  # and has taken away every handler
        if session and not failed and not (session / KEPT).exists():
            remove(session, processes)


def _in_main_thread() -> bool:
    """Whether this is the main thread, which alone may set signals' handlers."""
    return threading.current_thread() is threading.main_thread()


def _on_sigterm(handler: Any) -> None:
    if _in_main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Keep off standard output what a thread of Ray's prints of its servers; its logs have it too.

    Beside the main thread it is left alone, as others print there.
    """
    if not _in_main_thread():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Keep to itself what a Ray that others started logs here, as one of ours does."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_imports() -> None:
    """Refuse a Ray that is running already if its workers cannot import this project."""
    find = ray.remote(num_cpus=0)(
        lambda: bool(find_spec("tune") and find_spec("tune.workers"))  # by value, as it has no name
    )
    if not ray.get(find.remote()):
        raise InputError(
            f"the Ray that runs already cannot import {ROOT}: start it with "
            f"ray.init(runtime_env={{'env_vars': {{'PYTHONPATH': '{ROOT}'}}}}), or call "
            "ray.shutdown() for the search to start one"
        )


def _start(store_bytes: int) -> Any:
    """Start a Ray on this machine, for this run; return its context."""
    set_ray_environment(loopback=True)  # for whoever has not done so before the import
    _allow_files()
    _set_token()
    folder = private_folder() / "ray"
    latest = folder / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink()  # Ray makes it anew only where it leads somewhere or is missing
    try:
        return _init(
            address="local",  # whatever RAY_ADDRESS says, and whatever else runs here
            num_gpus=slices(),
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=max(MINIMUM_STORE, store_bytes),
            _temp_dir=str(folder),
        )
    except Exception as error:  # of many kinds; Ray's time-out is a plain Exception
        raise InputError(
            f"Ray does not start here ({one_line(error, 300)}); its logs are in "
            f"{folder}/session_latest/logs; on a busy machine try again"
        ) from None


def _allow_files() -> None:
    """Allow the open files that Ray's servers want; without them they end without a word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if most < FILES:
        raise InputError(f"ulimit -n is {hard}, and Ray opens more files; allowed: {FILES} or more")
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _join(address: str) -> Any:
    """Join a running Ray; return its context."""
    set_ray_environment(loopback=False)
    if address == "auto" and not os.environ.get("RAY_ADDRESS"):
        address = _found_here()
    _check_answers(address)
    try:
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # a submitted job has shipped its code
            return _init(address=address)
        with shipped_code() as code:
            return _init(address=address, runtime_env={"working_dir": str(code)})
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise InputError(
            f"--address {address}: the cluster does not take this project's code "
            f"({one_line(error, 300)})"
        ) from None
    except (ray.exceptions.RayError, OSError, ValueError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers ({one_line(error)}); one that asks for a "
            "token needs RAY_AUTH_MODE=token, and the token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        ) from None
    except RuntimeError as error:  # of other versions
        raise InputError(
            f"--address {address}: cannot join ({one_line(error, 400)}); needed are the cluster's "
            "Python and Ray"
        ) from None


def _init(**options: Any) -> Any:
    # Workers, and what the dashboard starts, import from this folder before any other.
    with chdir(ROOT):
        return ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)


def _found_here() -> str:
    """Return the address of this user's last `ray start` on this machine.

    Ray itself would take that of anybody's processes, or of a file that anybody may write.
    """
    file = Path(get_ray_address_file(None))
    with suppress(OSError):
        owners = {file.stat().st_uid, file.parent.stat().st_uid}
        if owners <= {0, os.geteuid()} and not open_to_all(file.parent):
            return file.read_text().strip()
    raise InputError(
        f"--address auto: no cluster is named in {file}, or others can change that; needed is "
        "HOST:PORT, or RAY_TMPDIR as the cluster was started with"
    )


def _check_closed(address: str | None, about: Mapping[str, Any]) -> None:
    """Refuse a cluster whose code on this machine any user could change."""
    folder = about.get("session_dir")
    if address is not None and folder and (found := open_to_all(Path(folder))):
        raise InputError(open_cluster("this machine", found))


def open_cluster(machine: str, folder: Path) -> str:
    """Say that any user of a machine can change the code that a cluster runs there."""
    return (
        f"--address: every user of {machine} can change what this cluster runs, in {folder}; start "
        "the cluster with RAY_TMPDIR naming a folder of mode 700 (docs/cluster.md)"
    )


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


def _set_token() -> None:
    """Give a local Ray a token: the user's, if it is the user's alone, else one for this process.

    Ray's processes get it by their environment, which no other user can read.
    """
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    with suppress(OSError):
        about = (Path.home() / ".ray" / "auth_token").stat()
        if about.st_uid == os.geteuid() and not about.st_mode & 0o077:
            return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _auto_share(need: int, cpus_per_trial: float) -> float:
    """Choose the share of a GPU that a trial gets on all machines."""
    if slices():
        return 1.0
    nodes = {node: about for node, about in alive().items() if about["Resources"].get("GPU")}
    shares = []
    for node, gpus in ask(nodes, ray.remote(num_cpus=0)(local_gpus)).items():
        resources = nodes[node]["Resources"]
        cpus, count = (resources.get(kind, 0.0) for kind in ("CPU", "GPU"))
        if cpus:  # else it runs no trial
            shares.append(auto_share(need, gpus, cpus / cpus_per_trial / count))
    return max(shares, default=1.0)


def _describe(
    resources: ResourcesConfig,
    dashboard: str | None,
    grows: bool,
    need: Callable[[], int],
    session: Path | None = None,
) -> Cluster:
    machines = [about["Resources"] for about in alive().values()]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    slot = {"CPU": resources.cpus_per_trial}
    if gpus:
        share = resources.gpus_per_trial
        slot["GPU"] = share if isinstance(share, float) else _auto_share(need(), slot["CPU"])
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
        session=session,
        store=min(machine.get("object_store_memory", math.inf) for machine in machines),
    )
