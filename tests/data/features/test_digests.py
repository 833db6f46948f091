"""Files that have not changed are not read again, and every change is seen."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data import FileSource
from data.features import KnownFiles, digest_images, file_stamps
from data.features.digests import SETTLED

KEYS = ["cat/a.jpg", "cat/b.jpg", "dog/ü.jpg", "gone.jpg"]


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    for number, key in enumerate(KEYS[:3]):
        path = tmp_path / "photos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 100)
    return FileSource(tmp_path / "photos")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files have been as they are for a while."""
    now = time.time_ns
    monkeypatch.setattr("data.features.digests.time.time_ns", lambda: now() + 2 * SETTLED)


def note(cache: Path, source: FileSource) -> None:
    KnownFiles(cache, source).add(KEYS, digest_images(source, KEYS))


def found(cache: Path, source: FileSource) -> list[str]:
    return KnownFiles(cache, source).find(KEYS, file_stamps(source, KEYS))


def right(source: FileSource) -> list[str]:
    contents = [(source.root / key).read_bytes() for key in KEYS[:3]]
    return [*(hashlib.sha256(content).hexdigest() for content in contents), ""]


def test_digests_come_with_why_an_image_has_none(source: FileSource) -> None:
    digested = digest_images(source, KEYS)
    assert digested.digests == right(source)
    assert digested.unreadable == {3: "No such file or directory"}


@pytest.mark.usefixtures("later")
def test_files_that_stay_are_known(source: FileSource, tmp_path: Path) -> None:
    assert found(tmp_path / "cache", source) == [""] * 4
    note(tmp_path / "cache", source)
    assert found(tmp_path / "cache", source) == right(source)
    assert found(tmp_path / "cache", FileSource(tmp_path)) == [""] * 4


@pytest.mark.usefixtures("later")
def test_what_is_known_of_other_files_stays(source: FileSource, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for some in (KEYS[2:], KEYS[:2]):
        KnownFiles(cache, source).add(some, digest_images(source, some))
    assert found(cache, source) == right(source)
    assert len(KnownFiles(cache, source)) == 3


@pytest.mark.usefixtures("later")
def test_deleted_files_are_forgotten_when_the_index_is_written(
    source: FileSource, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    note(cache, source)
    digests = right(source)
    (source.root / KEYS[0]).unlink()
    shutil.rmtree(source.root / "dog")
    (source.root / "new.jpg").write_bytes(b"new")
    assert len(KnownFiles(cache, source)) == 3
    KnownFiles(cache, source).add(["new.jpg"], digest_images(source, ["new.jpg"]))
    assert len(KnownFiles(cache, source)) == 2
    assert found(cache, source) == ["", digests[1], "", ""]
    (new,) = KnownFiles(cache, source).find(["new.jpg"], file_stamps(source, ["new.jpg"]))
    assert new == hashlib.sha256(b"new").hexdigest()


@pytest.mark.usefixtures("later")
def test_a_folder_that_cannot_be_listed_is_not_forgotten(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    note(cache, source)

    def away(folder: Path) -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle", str(folder))

    (source.root / "new.jpg").write_bytes(b"new")
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", away)
        KnownFiles(cache, source).add(["new.jpg"], digest_images(source, ["new.jpg"]))
    assert len(KnownFiles(cache, source)) == 4


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 10**18))


def replace_alike(path: Path) -> None:
    """By a file of the same size and time, as `cp -p` and `rsync -t` make them."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"x" * before.st_size)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def tick(folder: Path) -> None:
    """Wait until the clock that gives files their times has gone on."""
    (folder / "clock").touch()
    began = (folder / "clock").stat().st_ctime_ns
    while (folder / "clock").stat().st_ctime_ns == began:
        time.sleep(0.005)
        (folder / "clock").touch()


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [touch, replace_alike, grow, overwrite, Path.unlink])
def test_a_file_that_changes_is_not_known(
    source: FileSource, tmp_path: Path, change: object
) -> None:
    cache = tmp_path / "cache"
    note(cache, source)
    tick(tmp_path)
    before = right(source)
    change(source.root / KEYS[1])  # type: ignore[operator]
    assert found(cache, source) == [before[0], "", before[2], ""]
    note(cache, source)
    again = digest_images(source, KEYS).digests
    assert found(cache, source) == again
    assert again[0] == before[0]


def test_a_file_that_has_just_changed_is_read_again(source: FileSource, tmp_path: Path) -> None:
    """Within a tick of the file system's clock a second change would leave its times alone."""
    note(tmp_path / "cache", source)
    assert found(tmp_path / "cache", source) == [""] * 4
    assert not list(tmp_path.glob("cache/**/*"))


@pytest.mark.usefixtures("later")
def test_a_change_while_a_file_is_read_shows_the_next_time(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FileSource.content

    def changing(self: FileSource, key: str) -> bytes:
        content = plain(self, key)
        tick(tmp_path)
        overwrite(self.root / key)
        return content

    with monkeypatch.context() as patched:
        patched.setattr(FileSource, "content", changing)
        note(tmp_path / "cache", source)
    assert found(tmp_path / "cache", source) == [""] * 4


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_file_is_as_good_as_none(
    source: FileSource, tmp_path: Path, share: float
) -> None:
    cache = tmp_path / "cache"
    note(cache, source)
    (known,) = (path for path in cache.rglob("*") if path.is_file())
    content = known.read_bytes()
    known.write_bytes(content[: int(share * len(content))])
    assert found(cache, source) == [""] * 4
    for place in np.linspace(0, len(content) - 1, 50).astype(int).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1
        known.write_bytes(flipped)
        assert found(cache, source) in ([""] * 4, right(source))  # in a header's white space
    note(cache, source)
    assert found(cache, source) == right(source)


@pytest.mark.usefixtures("later")
def test_a_place_that_cannot_be_written_is_no_error(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    note(tmp_path / "cache", source)
    assert found(tmp_path / "cache", source) == [""] * 4


@dataclass(frozen=True)
class Cropped(FileSource):
    """What it reads is not in the file alone."""

    size: int = 50

    def content(self, key: str) -> bytes:
        return super().content(key)[: self.size]


@pytest.mark.usefixtures("later")
def test_sources_that_are_more_than_files_are_read_each_time(
    source: FileSource, tmp_path: Path
) -> None:
    cropped = Cropped(source.root)
    note(tmp_path / "cache", source)
    note(tmp_path / "cache", cropped)
    assert found(tmp_path / "cache", cropped) == [""] * 4
    assert found(tmp_path / "cache", source) == right(source)
