"""What a machine's GPUs are, as stand-ins of the driver's tool say, and how trials share them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.device import CONTEXT
from tune.workers.gpus import SHARES, Gpus, auto_share, local_gpus, room_for_tensors, slices

GB = 1 << 30


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ("81920, Default\n", (81920 << 20, False)),
        ("81920, Default\n16384, Exclusive_Process\n", (16384 << 20, True)),
        ("[N/A], Exclusive_Process\n", (None, True)),
        ("[N/A], Default\n", (None, False)),
        ("1040\n", (1040 << 20, False)),  # an older tool
        ("", (None, False)),
    ],
)
def test_what_the_drivers_tool_says_is_read(
    says: str, found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{says}END\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert local_gpus() == found
    (tmp_path / "control").touch()  # NVIDIA's MPS serves several processes
    assert local_gpus() == (found[0], False)


@pytest.mark.parametrize(
    ("named", "count"),
    [
        (None, None),
        ("", None),
        ("0,1", None),
        ("GPU-8932f937", None),
        ("MIG-3f1c,MIG-77aa", 2),
        ("MIG-GPU-8932f937/1/0", 1),
    ],
)
def test_slices_of_a_card_are_counted_where_ray_would_count_the_card(
    named: str | None, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert slices() == count


@pytest.mark.parametrize(
    ("need", "memory", "cores", "trials"),
    [
        (GB // 100, 24, 16, 8),  # the default's encoder
        (GB // 100, 24, 6, 4),
        (GB // 100, 24, 1, 1),
        (3 * GB, 80, 64, 8),
        (3 * GB, 24, 64, 4),
        (3 * GB, 16, 64, 4),
        (7 * GB, 16, 64, 2),
        (7 * GB, 8, 64, 1),  # it is refused later
        (GB, None, 64, 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_it_and_the_cores_have_room_for(
    need: int, memory: int | None, cores: float, trials: int
) -> None:
    gpus = Gpus(None if memory is None else memory * GB, False)
    assert auto_share(need, gpus, cores) == 1 / trials
    assert auto_share(need, gpus._replace(exclusive=True), cores) == 1.0


@given(st.integers(0, 100 * GB), st.integers(1, 200 * GB), st.floats(0.1, 64))
def test_a_share_has_room_for_the_largest_trial_and_a_core(
    need: int, memory: int, cores: float
) -> None:
    count = round(1 / auto_share(need, Gpus(memory, False), cores))
    if count == 1:
        return
    assert count in SHARES
    assert count <= cores
    assert need <= room_for_tensors(memory / count) <= max(memory / count - CONTEXT, memory / 2)
