"""What becomes of a job's error: one line where the machine is at fault, else a traceback."""

from __future__ import annotations

import pytest
import torch
from ray.exceptions import RayTaskError

from errors import InputError
from tune.workers.actor_pool import result_of
from tune.workers.own_device import NoGpuError


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("score", "Traceback …", cause, proctitle="", pid=1, ip="10.0.0.7")


def test_a_result_is_itself() -> None:
    assert result_of(0.5, "features") == 0.5


@pytest.mark.parametrize(
    "cause",
    [
        NoGpuError("no GPU here: Ray gave 3 on 10.0.0.7, and torch sees none"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    ],
)
def test_what_a_machine_lacks_is_told_in_a_line(cause: Exception) -> None:
    with pytest.raises(InputError) as error:
        result_of(failed(cause), "features")
    assert str(error.value).startswith(f"features: a process failed again and again: {cause};")
    assert "--resume" in str(error.value)


def test_a_jobs_own_complaint_is_passed_on() -> None:
    with pytest.raises(InputError, match=r"^data\.source: gone$"):
        result_of(failed(InputError("data.source: gone")), "features")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RayTaskError):
        result_of(failed(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), "features")
