from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(orientation: int) -> None:
    image, exif = Image.effect_noise((5, 3), 90).convert("RGB"), Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, "png", exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert decode(content).tobytes() == wanted.tobytes()


def test_odd_exif_does_not_cost_a_photo() -> None:
    """Tags whose type Pillow cannot write again, as it would to remove the orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0131] = "a camera"  # Software, of type ASCII
    content = encoded(Image.new("RGB", (4, 2)), "jpeg", exif=exif)
    tag = bytes.fromhex("0131 0002 00000009")
    assert tag in content
    rational = content.replace(tag, bytes.fromhex("0131 0005 00000001"))
    assert decode(rational).size == (2, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_makes_an_image_unreadable(value: float) -> None:
    """The whole image came out black."""
    pixels = np.array([[0, value, 1]], dtype=np.float32)
    with pytest.raises(ValueError, match="NaN or infinite"):
        decode(encoded(Image.fromarray(pixels), "tiff"))


def test_a_strip_is_refused_before_it_takes_its_memory() -> None:
    with pytest.raises(ValueError, match="a strip of 1 x 30000 pixels"):
        decode(encoded(Image.new("L", (1, 30_000)), "png"))
    assert decode(encoded(Image.new("L", (2000, 1)), "png")).size == (2000, 1)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert decode(content).getpixel((0, 0)) == (255, 0, 0)


def test_pixel_digests_tell_shapes_apart() -> None:
    digests = {pixel_digest(Image.new("RGB", size)) for size in ((2, 3), (3, 2), (1, 6), (6, 1))}
    assert len(digests) == 4


def photo(height: int, width: int) -> Image.Image:
    """A picture with shades and edges, which survive a smaller size."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    waves = [np.sin(9 * x + 3 * y * phase) * np.cos(7 * y) for phase in (1, 2, 3)]
    pixels = 128 + 90 * np.stack(waves, axis=-1) + 30 * (x > 0.5)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, mode) for kind in ("jpeg", "mpo") for mode in ("RGB", "L", "CMYK")),
        *((kind, mode) for kind in ("png", "webp", "bmp") for mode in ("RGB", "L")),
    ],
)
@pytest.mark.parametrize("size", [(600, 800), (817, 601), (640, 5000)])
def test_a_large_image_comes_smaller_and_looks_the_same(
    kind: str, mode: str, size: tuple[int, int]
) -> None:
    content = encoded(photo(*size).convert(mode), kind)
    whole, small = decode(content), decode(content, 100)
    factor = min(whole.size) / min(small.size)
    assert min(small.size) >= 100
    assert factor > 3.9
    assert small.width / small.height == pytest.approx(whole.width / whole.height, rel=0.02)
    wanted = np.asarray(whole.resize((64, 64)), dtype=float)
    difference = np.abs(np.asarray(small.resize((64, 64)), dtype=float) - wanted)
    assert difference.mean() < 2


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_an_image_that_is_not_twice_as_large_is_as_it_was(kind: str) -> None:
    content = encoded(photo(199, 260), kind)
    assert decode(content, 100).tobytes() == decode(content).tobytes()
    assert decode(content, 300).tobytes() == decode(content).tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_image_is_turned_as_well(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = (encoded(photo(400, 520), kind, exif=e) for e in (Image.Exif(), exif))
    stood = encoded(decode(plain, 100), "png", exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(stood)))
    small = decode(turned, 100)
    assert small.size == wanted.size
    assert np.abs(np.asarray(small, float) - np.asarray(wanted, float)).mean() < 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_cut_file_is_found_whatever_size_is_asked_for(options: dict[str, object]) -> None:
    content = encoded(photo(800, 640), "jpeg", **options)

    def reads(part: bytes, least: int | None) -> bool:
        try:
            decode(part, least)
        except Exception:
            return False
        return True

    size = len(content)
    ends = [*range(0, size, size // 60), *range(size - 40, size + 1)]
    whole = [reads(content[:end], None) for end in ends]
    assert whole == [reads(content[:end], 80) for end in ends]
    assert whole[-1]
    assert not any(whole[:60])


def test_deep_grey_and_transparency_come_smaller_too() -> None:
    values = np.tile(np.linspace(0, 65535, 400).astype(np.uint16), (400, 1))
    small = np.asarray(decode(encoded(Image.fromarray(values), "png"), 100))
    assert small.shape == (100, 100, 3)
    assert np.abs(small[0, :, 0] - np.linspace(0, 255, 100)).max() < 2
    clear = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    assert decode(encoded(clear, "png"), 100).getpixel((9, 9)) == (255, 255, 255)
