from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
from PIL import Image

from data import FileSource, UnreadableImageError


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    return FileSource(tmp_path)


def test_a_file_is_read_by_relative_and_absolute_key(source: FileSource) -> None:
    absolute = str(source.root / "whole.jpg")
    assert source.image("whole.jpg").mode == "RGB"
    assert source.image(absolute).tobytes() == source.image("whole.jpg").tobytes()


def test_the_digest_is_that_of_the_bytes(source: FileSource) -> None:
    content = (source.root / "whole.jpg").read_bytes()
    assert source.digest("whole.jpg") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("key", ["cut.jpg", "text.png", "empty.png", "folder.png", "missing.png"])
def test_unreadable_images_say_so(source: FileSource, key: str) -> None:
    with pytest.raises(UnreadableImageError) as error:
        source.image(key)
    assert error.value.key == key
    assert str(error.value) == f"{key}: {error.value.reason}"
    assert " at 0x" not in error.value.reason


def test_heic_says_what_reads_it(source: FileSource) -> None:
    (source.root / "a.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(UnreadableImageError, match="HEIC, and pillow-heif is not installed"):
        source.image("a.HEIC")


def test_damaged_bytes_have_a_digest_but_missing_ones_none(source: FileSource) -> None:
    assert len(source.digest("cut.jpg")) == 64
    with pytest.raises(UnreadableImageError, match="No such file"):
        source.digest("missing.png")


@pytest.mark.parametrize("error", [AttributeError("odd tag"), MemoryError(), RuntimeError("bug")])
def test_whatever_a_file_raises_names_it(
    source: FileSource, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bytes, least: int | None) -> Image.Image:
        raise error

    monkeypatch.setattr("data.sources.base.decode", fail)
    with pytest.raises(UnreadableImageError, match=r"whole\.jpg: (odd tag|MemoryError|bug)"):
        source.image("whole.jpg")


def test_a_decompression_bomb_is_unreadable(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        source.image("whole.jpg")


def test_sources_and_errors_cross_processes(source: FileSource) -> None:
    assert pickle.loads(pickle.dumps(source)) == source
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.jpg", "truncated")))
    assert (error.key, error.reason, str(error)) == ("a.jpg", "truncated", "a.jpg: truncated")
