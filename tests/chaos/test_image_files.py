"""Whatever lies in an image's file: an image, or one line that says why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data import FileSource, UnreadableImageError
from tests.chaos import times

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F", "transparent palette")


def drawn(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """An image of noise in some mode."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4)).astype(np.uint8)
    colours = Image.fromarray(noise[..., :3].copy())
    match mode:
        case "RGBA":
            return Image.fromarray(noise)
        case "I;16":
            return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
        case "transparent palette":
            image = colours.quantize(16)
            image.info["transparency"] = 0
            return image
    return colours.convert(mode)


@st.composite
def sound(draw: st.DrawFn) -> tuple[bytes, tuple[int, int]]:
    """A file as a camera or a tool would write it, and the size the image has when turned."""
    kind, mode = draw(st.sampled_from(KINDS)), draw(st.sampled_from(MODES))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = drawn(mode, width, height, draw(st.integers(0, 99)))
    turn = draw(st.integers(1, 8)) if kind in ("PNG", "JPEG", "WEBP") else 1
    options: dict[str, Any] = {}
    if turn != 1:
        exif = Image.Exif()
        exif[0x0112] = turn
        options["exif"] = exif
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError):  # a mode that the format does not have
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue(), (height, width) if turn >= 5 else (width, height)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_of(width: int, height: int, depth: int, colour: int, content: bytes) -> bytes:
    """A PNG whose header promises what its content may not hold."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


bombs = st.builds(
    png_of,
    *(st.sampled_from([0, 1, 7, 20_000, 100_000, 2**31 - 1]),) * 2,
    st.sampled_from([0, 1, 8, 16, 255]),
    st.sampled_from([0, 2, 3, 4, 6, 9]),
    st.binary(max_size=64),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound file cut short, with bits flipped, a piece left out, or another's behind it."""
    content, _ = draw(sound())
    place = draw(st.integers(0, len(content) - 1))
    match draw(st.sampled_from(["cut", "flip", "leave out", "splice"])):
        case "cut":
            return content[:place]
        case "flip":
            flipped = bytearray(content)
            for _ in range(draw(st.integers(1, 8))):
                flipped[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)
        case "leave out":
            return content[:place] + content[place + draw(st.integers(1, 64)) :]
    return content[:place] + draw(sound())[0][place:]


heads = st.sampled_from(
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF", b"II*\0"]
)
fuzzed = damaged() | bombs | st.builds(bytes.__add__, heads, st.binary(max_size=200))
many = settings(max_examples=times(50, 500), deadline=None, suppress_health_check=list(HealthCheck))


def read(folder: Path, content: bytes) -> Image.Image | str:
    """The image in a file of this content, or why there is none; anything else fails."""
    (folder / "image").write_bytes(content)
    source = FileSource(folder)
    assert len(source.digest("image")) == 64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = source.image("image")
        except UnreadableImageError as error:
            return error.reason
    assert image.mode == "RGB"
    assert image.getextrema()  # its pixels are there
    return image


@many
@given(content=fuzzed)
def test_any_file_is_an_image_or_told_to_be_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    found = read(tmp_path_factory.getbasetemp(), content)
    assert found  # an image, or a reason that is not empty


@many
@given(made=sound())
def test_every_sound_file_is_an_image_turned_as_it_says(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[bytes, tuple[int, int]]
) -> None:
    found = read(tmp_path_factory.getbasetemp(), made[0])
    assert isinstance(found, Image.Image), found
    assert found.size == made[1]


def test_a_bomb_is_told_before_it_takes_its_memory(tmp_path: Path) -> None:
    said = read(tmp_path, png_of(100_000, 100_000, 8, 2, b"\0" * 64))
    assert isinstance(said, str)
    assert "decompression bomb" in said
