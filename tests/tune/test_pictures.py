"""A run keeps thumbnails of the images that its report shows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from data import UnreadableImageError
from records import picture_path
from tune import pictures
from tune.pictures import save_pictures


class Source:
    """Images of a size that their keys name; `none` cannot be read."""

    def image(self, key: str, least: int | None = None) -> Image.Image:
        if key == "none":
            raise UnreadableImageError(key, "not there")
        width, height = map(int, key.split("x"))
        return Image.new("RGB", (width, height), "teal")


@pytest.fixture
def dataset() -> Any:
    return SimpleNamespace(source=Source(), tests={"test": SimpleNamespace(source=Source())})


def keep(run_dir: Path, dataset: Any, named: list[tuple[str, str]], patch: Any) -> set[str]:
    patch.setattr(pictures, "read_run", lambda _: None)
    patch.setattr(pictures, "wanted", lambda _: named)
    save_pictures(run_dir, dataset)
    return {path.name for path in (run_dir / "pictures").iterdir()}


@pytest.mark.parametrize(
    ("key", "size"),
    [("400x200", (192, 96)), ("200x400", (96, 192)), ("30x50", (30, 50)), ("19200x90", (960, 4))],
)
def test_a_thumbnail_has_a_short_side_of_96(
    key: str, size: tuple[int, int], dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    keep(tmp_path, dataset, [("train", key)], monkeypatch)
    with Image.open(picture_path(tmp_path, "train", key)) as image:
        assert (image.size, image.format) == (size, "WEBP")


def test_what_is_not_wanted_any_more_goes_and_what_cannot_be_read_has_none(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    named = [("train", "9x9"), ("test", "9x9"), ("val", "none"), ("gone", "9x9")]
    both = {picture_path(tmp_path, split, "9x9").name for split in ("train", "test")}
    assert keep(tmp_path, dataset, named, monkeypatch) == both
    assert keep(tmp_path, dataset, named[1:], monkeypatch) < both
