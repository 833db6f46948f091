from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from data.decoding import decode, pixel_digest, to_rgb


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = to_rgb(Image.new("L", (3, 2), 200).convert(mode))
    assert (image.mode, image.size) == ("RGB", (3, 2))


def test_transparency_shows_white() -> None:
    clear = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert decode(encoded(clear, "png")).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_scale() -> None:
    values = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    image = decode(encoded(Image.fromarray(values), "png"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]


def test_floats_are_stretched_to_their_range() -> None:
    image = decode(encoded(Image.fromarray(np.array([[-1, 0, 1]], dtype=np.float32)), "tiff"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    assert decode(encoded(Image.new("RGB", (4, 2)), "jpeg", exif=exif)).size == (2, 4)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert decode(content).getpixel((0, 0)) == (255, 0, 0)


def test_pixel_digests_tell_shapes_apart() -> None:
    digests = {pixel_digest(Image.new("RGB", size)) for size in ((2, 3), (3, 2), (1, 6), (6, 1))}
    assert len(digests) == 4
