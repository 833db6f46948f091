from __future__ import annotations

import io
import zlib
from pathlib import Path

import pytest
from safetensors import SafetensorError

from errors import InputError
from files import check_folder, crc32, replacing, room_in


def test_a_folder_or_what_can_become_one_will_do(tmp_path: Path) -> None:
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "a" / "b", "--out")


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_file_will_not(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out: .*/file is not a folder$"):
        check_folder(tmp_path / below, "--out")


def test_nor_will_what_one_may_not_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root
    with pytest.raises(InputError, match=r"^features.cache: cannot write to "):
        check_folder(tmp_path, "features.cache")


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
    with pytest.raises(InputError) as told, room_in(tmp_path):
        fails(error)
    line = str(told.value)
    assert line.startswith(f"{tmp_path}: cannot be written to (No space left on device); ")
    assert line.endswith("--resume")


def test_a_full_disk_elsewhere_is_told_of_the_file_on_it(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device", "/home/somebody/.ray/auth_token")
    elsewhere = r"^/home/somebody/\.ray/auth_token: cannot be written to"
    with pytest.raises(InputError, match=elsewhere), room_in(tmp_path):
        raise full
    ours = OSError(28, "No space left on device", str(tmp_path / "events.jsonl"))
    with pytest.raises(InputError, match=f"^{tmp_path}: cannot be written to"), room_in(tmp_path):
        raise ours


@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError(2, "x"), InputError("y")])
def test_no_other_error_is_taken_for_a_full_disk(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, room_in(tmp_path):
        raise error
    assert raised.value is error


def _write_half(path: Path) -> None:
    path.write_text("half")
    raise ZeroDivisionError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    with replacing(file) as path:
        path.write_text("first")
        assert not file.exists()
    with pytest.raises(ZeroDivisionError), replacing(file) as path:
        _write_half(path)
    assert file.read_text() == "first"
    with replacing(file) as one, replacing(file) as other:  # two threads, or machines
        one.write_text("one")
        other.write_text("other")
    assert file.read_text() == "one"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("size", [None, 0, 5, (1 << 24) + 3])
def test_checksums_are_of_the_next_bytes(size: int | None) -> None:
    content = bytes(range(256)) * ((1 << 16) + 2)
    file = io.BytesIO(content)
    file.seek(7)
    assert crc32(file, size) == zlib.crc32(content[7:] if size is None else content[7 : 7 + size])
    assert file.tell() == (len(content) if size is None else 7 + size)
