"""The folder of Ray's files: its owner's alone, or none."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from errors import InputError
from tune.workers.private import LONGEST, open_to_all, private_folder

NAME = f"clip-search-{os.getuid()}"


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder as /tmp is, which RAY_TMPDIR names."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_the_folder_is_made_for_its_owner_alone_and_found_again(base: Path) -> None:
    umask = os.umask(0)
    try:
        assert private_folder() == private_folder() == base / NAME
    finally:
        os.umask(umask)
    assert stat.S_IMODE((base / NAME).stat().st_mode) == 0o700


def somebody_elses(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("not root")
    folder.mkdir(0o700)
    os.chown(folder, 54321, 54321)


def a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(0o700)
    folder.symlink_to("elsewhere")


def open_before(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


def in_a_folder_of_everybodys(folder: Path) -> None:
    folder.parent.chmod(0o777)  # where anybody may put another folder in its place


def a_file(folder: Path) -> None:
    folder.touch(0o600)


@pytest.mark.parametrize(
    "make", [somebody_elses, a_link, open_before, in_a_folder_of_everybodys, a_file]
)
def test_a_folder_that_may_be_another_users_is_refused(
    base: Path, make: Callable[[Path], None]
) -> None:
    make(base / NAME)
    with pytest.raises(InputError, match=r"is not yours alone .* set RAY_TMPDIR"):
        private_folder()


def test_a_folder_too_long_for_sockets_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("x" * LONGEST)))
    with pytest.raises(InputError, match=r"too long for Ray's sockets"):
        private_folder()


def test_a_folder_that_ray_cannot_write_is_told(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.workers.private.NEEDED", 1 << 60)
    with pytest.raises(InputError, match=r" MB free, and Ray writes its logs there; set RAY_TMP"):
        private_folder()
    monkeypatch.setenv("RAY_TMPDIR", str(base / "é"))
    with pytest.raises(InputError, match=r"has other letters than ASCII's, .*; set RAY_TMPDIR"):
        private_folder()


def test_a_folder_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null")
    with pytest.raises(InputError, match=r"Ray needs a temporary folder: .* set RAY_TMPDIR"):
        private_folder()


def test_folders_are_open_where_everybody_may_replace_what_is_in_them(base: Path) -> None:
    session = base / "ray" / "session"
    session.mkdir(parents=True)
    assert open_to_all(session) is None
    session.chmod(0o777)
    assert open_to_all(session / "..") is None
    assert open_to_all(session) == session
    base.chmod(0o700)
    assert open_to_all(session) is None  # nobody gets there
