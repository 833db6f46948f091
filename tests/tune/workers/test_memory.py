"""How much memory a process may use, by its cgroups."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tune.workers.memory import own_memory

MACHINE = 512 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=MACHINE))


@pytest.mark.parametrize(
    ("own", "limits", "memory"),
    [
        (None, {}, MACHINE),
        ("0::/\n", {"memory.max": "max"}, MACHINE),
        ("0::/\n", {"memory.max": 16 << 30}, 16 << 30),  # a pod
        ("0::/job_7/step_0\n", {"job_7/memory.max": 8 << 30, "memory.max": "max"}, 8 << 30),
        ("0::/job_7/step_0\n", {"job_7/step_0/memory.max": 4 << 30}, 4 << 30),
        ("0::/../other\n", {"memory.max": 16 << 30}, 16 << 30),  # of another namespace
        ("0::/\n", {"memory.max": 1 << 62}, MACHINE),
        (
            "5:cpu:/x\n4:cpuset,memory:/slurm/job_7\n0::/user\n",
            {"memory/slurm/memory.limit_in_bytes": 8 << 30, "x/memory.max": 1},
            8 << 30,
        ),
    ],
)
def test_the_tightest_limit_above_a_process_holds(
    own: str | None, limits: dict[str, int | str], memory: int, tmp_path: Path
) -> None:
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, limit in limits.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    assert own_memory(tmp_path / "cgroup", tmp_path / "own") == memory
