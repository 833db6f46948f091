"""Images of 16 bits that use a small part of their range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataConfig, load_dataset


def warnings_of(folder: Path, most: float, dtype: type = np.uint16, suffix: str = "png") -> str:
    """The warnings of a set of noise up to a value."""
    rng = np.random.default_rng(0)
    for row in range(12):
        file = folder / "ab"[row % 2] / f"{row}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, int(most) + 1, (40, 40)).astype(dtype)
        Image.fromarray(pixels).save(file)
    return " ".join(load_dataset(DataConfig(source=f"folder:{folder}")).warnings)


@pytest.mark.parametrize(("bits", "share", "levels"), [(12, 6, 17), (10, 2, 5)])
def test_few_bits_in_sixteen_are_warned_of(
    tmp_path: Path, bits: int, share: int, levels: int
) -> None:
    said = warnings_of(tmp_path, 2**bits - 1)
    assert f"use {share}% of that range: at most {levels} of 256 grey levels remain" in said


@pytest.mark.parametrize(("most", "dtype"), [(65535, np.uint16), (15, np.uint8)])
def test_full_range_and_eight_bits_are_not(tmp_path: Path, most: int, dtype: type) -> None:
    assert warnings_of(tmp_path, most, dtype) == ""


def test_floats_with_one_far_value_are_warned_of(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, 200, np.float32, "tif") == ""
    for file in tmp_path.glob("*/*.tif"):
        pixels = np.array(Image.open(file)) / 200
        pixels[0, 0] = -9999
        Image.fromarray(pixels).save(file)
    said = load_dataset(DataConfig(source=f"folder:{tmp_path}")).warnings
    assert "at most 2 of 256 grey levels remain" in said[0]
