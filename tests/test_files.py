from __future__ import annotations

from pathlib import Path

import pytest

from errors import InputError
from files import check_folder


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
