from __future__ import annotations

from pathlib import Path

import pytest

from errors import InputError
from files import check_folder, expanded, nearest, replacing


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


def test_the_users_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x", "--out") == tmp_path / "x"
    with pytest.raises(InputError, match=r"^--out: ~nobody-of-that-name/x: "):
        expanded("~nobody-of-that-name/x", "--out")


def test_the_nearest_folder_is_the_lowest_that_exists(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path == nearest(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(ValueError, match="halfway"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("two")
        raise ValueError("halfway")
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["file"]
