"""The memory that this process may use, which on a shared machine is less than the machine has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def own_memory(cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Return the bytes of memory that this process's cgroups allow it, at most the machine's.

    Slurm (`--mem`), Kubernetes and Docker bound their jobs so. Ray's own figure is of the topmost
    group alone, and a batch job's limit lies in one further down.
    """
    total: int = psutil.virtual_memory().total
    return min([total, *_limits(cgroups, own)])


def _limits(cgroups: Path, own: Path) -> Iterator[int]:
    """Yield the limits of this process's groups, and of all groups that those lie in."""
    lines: list[str] = []
    with suppress(OSError):
        lines = own.read_text().splitlines()
    places = [("", "/"), ("memory", "/")]  # in a container only the topmost may be seen
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            places.append((controllers and "memory", path))
    for kind, path in places:
        root, name = cgroups / kind, "memory.limit_in_bytes" if kind else "memory.max"
        folder = root / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root):
                with suppress(OSError, ValueError):  # ValueError: "max"
                    yield int((each / name).read_text())
