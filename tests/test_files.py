from __future__ import annotations

import io
import os
import stat
import zlib
from pathlib import Path

import pytest

from errors import InputError
from files import Summed, check_folder, crc32, expanded, nearest, new_folder, replacing


def test_a_folder_or_what_can_become_one_will_do(tmp_path: Path) -> None:
    check_folder(tmp_path, "--out")
    check_folder(tmp_path / "a" / "b", "--out")


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_file_will_not(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out: .*/file is not a folder$"):
        check_folder(tmp_path / below, "--out")


def test_nor_will_a_link_to_nothing(tmp_path: Path) -> None:
    for name, target in (("dangling", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(InputError, match=rf"^--out: .*/{name} is a link to nothing$"):
            check_folder(tmp_path / name / "deeper", "--out")


def test_nor_will_what_one_may_not_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^features.cache: cannot write to /proc: "):
        check_folder(Path("/proc/x"), "features.cache")  # not even root, whom rights do not stop


def test_the_users_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x", "--out") == tmp_path / "x"
    with pytest.raises(InputError, match=r"^--out: ~nobody-of-that-name/x: "):
        expanded("~nobody-of-that-name/x", "--out")


def test_the_nearest_folder_is_the_lowest_that_exists(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path == nearest(tmp_path)


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with pytest.raises(ZeroDivisionError), new_folder(folder) as place:
        _write_half(place / "file")
    assert list((tmp_path / "new").iterdir()) == []
    folder.mkdir()  # an empty one may be there
    with new_folder(folder) as place:
        (place / "file").write_text("whole")
        assert list(folder.iterdir()) == []
    assert (folder / "file").read_text() == "whole"
    assert list((tmp_path / "new").iterdir()) == [folder]


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


def test_what_is_written_is_summed_up_as_it_goes() -> None:
    file = io.BytesIO(b"head")
    file.seek(4)
    summed = Summed(file)
    assert summed.write(b"ab") == 2
    summed.write(memoryview(b"cd"))
    assert summed.crc == zlib.crc32(b"abcd")
    assert file.getvalue() == b"headabcd"


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    rename = os.replace

    def synced(descriptor: int) -> None:
        done.append(("synced", os.fstat(descriptor).st_size))

    def renamed(source: Path, target: Path) -> None:
        done.append(("renamed", source.stat().st_size))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with replacing(tmp_path / "file") as path:
        path.write_text("whole")
    assert done == [("synced", 5), ("renamed", 5)]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    refusal = pytest.raises(InputError, match=r"/file is a folder; move it away")
    with refusal, replacing(tmp_path / "file") as path:
        path.touch()
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match="pipe is no regular file"):
            replacing(tmp_path / name).__enter__()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for text in ("first", "second"):
        with replacing(tmp_path / "link") as path:
            path.write_text(text)
        assert (tmp_path / "file").read_text() == text
    assert (tmp_path / "link").is_symlink()


def test_a_file_has_the_users_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with replacing(tmp_path / "weights") as path:
        path.touch(0o600)  # as safetensors does
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "weights")}
    assert len(modes) == 1
