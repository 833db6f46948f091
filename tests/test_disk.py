from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from disk import full_disk_reported
from errors import InputError


def fails(error: Exception) -> None:
    """As Tune does, which puts the error's traceback in another's text."""
    try:
        raise error
    except type(error):
        raise RuntimeError("a traceback\nin text") from None


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_whatever_library_met_it(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InputError) as told, full_disk_reported(tmp_path):
        fails(error)
    line = str(told.value)
    assert line.startswith(f"{tmp_path}: cannot be written to (No space left on device); ")
    assert line.endswith("--resume")


def test_a_full_disk_elsewhere_is_told_of_the_file_on_it(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device", "/home/somebody/.ray/auth_token")
    elsewhere = r"^/home/somebody/\.ray/auth_token: cannot be written to"
    with pytest.raises(InputError, match=elsewhere), full_disk_reported(tmp_path):
        raise full
    ours = OSError(28, "No space left on device", str(tmp_path / "events.jsonl"))
    with (
        pytest.raises(InputError, match=f"^{tmp_path}: cannot be written to"),
        full_disk_reported(tmp_path),
    ):
        raise ours


@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(2, "x"), InputError("y")])
def test_no_other_error_is_taken_for_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, full_disk_reported(tmp_path):
        raise error
    assert raised.value is error
