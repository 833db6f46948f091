"""Which files are images, whatever they are called, and where links lead."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from data import decoding
from data.sources import image_files
from data.sources.image_files import images_below, is_image


def photo(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(buffer, kind)
    return buffer.getvalue()


def names_below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in images_below(folder, folder.parent)[0]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jfif", "JPEG"), ("a.jpg_large", "JPEG"), ("a.jpg?w=640", "JPEG"), ("a", "PNG"),
     ("a.avif", "AVIF"), ("a.jp2", "JPEG2000"), ("a.jpe", "JPEG"), ("a.pbm", "PPM")],
)  # fmt: skip
def test_content_tells_an_image_whose_ending_does_not(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(photo(kind))
    assert is_image(tmp_path / name)
    (tmp_path / name).write_bytes(b"no image at all")
    assert not is_image(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg~", "JPEG"), ("a.jpg.bak", "JPEG"), ("a.cr2", "TIFF"), ("a.txt", "PNG"),
     ("a.pdf", "JPEG")],
)  # fmt: skip
def test_copies_put_aside_and_raw_files_are_no_images(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(photo(kind))
    assert not is_image(tmp_path / name)


def test_heic_is_read_where_pillow_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (False, True):
        monkeypatch.setattr(image_files, "reads_heic", lambda able=able: able)
        assert is_image(tmp_path / "a.HEIC") == able
    assert isinstance(decoding.reads_heic(), bool)


def test_linked_folders_are_entered_once_and_loops_are_not(tmp_path: Path) -> None:
    cat, store = tmp_path / "photos" / "cat", tmp_path / "store"
    for folder in (cat / "zoo", store / "deep"):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (cat / "a_link").symlink_to(cat / "zoo")  # keeps the name that it has without links
    (cat / "more").symlink_to(store)
    (cat / "again").symlink_to(store / "deep")
    (cat / "self").symlink_to("self")
    for place, target in (("loop", "."), ("up", ".."), ("top", tmp_path), ("root", "/")):
        (cat / place).symlink_to(target)
    (store / "deep" / "back").symlink_to(cat)
    found, passed = images_below(cat, tmp_path / "photos")
    names = [path.relative_to(cat).as_posix() for path in found]
    assert names == ["again/a.jpg", "zoo/a.jpg"]
    assert sorted(passed.others["linked folder{s} listed already"]) == sorted(
        ["a_link", "loop", "up", "top", "root", "back", "deep"]
    )
    assert passed.others["link{s} to nothing"] == ["self"]


def test_a_class_folder_that_is_a_link_to_all_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.jpg").touch()
    (tmp_path / "all").symlink_to(".")
    assert images_below(tmp_path / "all", tmp_path)[0] == []
    assert names_below(tmp_path / "cat") == ["a.jpg"]


def test_a_pipe_is_passed_over_by_name(tmp_path: Path) -> None:
    cat = tmp_path / "cat"
    cat.mkdir()
    (cat / "a.png").touch()
    os.mkfifo(cat / "b.png")
    images, passed = images_below(cat, tmp_path)
    assert [image.name for image in images] == ["a.png"]
    assert passed.lines() == ["1 pipe or device passed over: b.png"]
