"""The speed of an encoder: what jobs measured, and what the cache keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from data import FeatureStore
from records import EncoderTimed
from tune.features.speed import FILE, keep_speed, kept_speed, together, typical


def test_it_is_the_median_on_the_device_that_did_most() -> None:
    slow, fast = (EncoderTimed(rate, "a GPU") for rate in (10.0, 30.0))
    cpu = EncoderTimed(1.0, "a CPU")
    assert typical([slow, cpu, fast]) == EncoderTimed(20.0, "a GPU")
    assert typical([]) is None


def test_an_image_takes_as_long_as_it_does_in_every_encoder_that_is_joined() -> None:
    slow, fast = (EncoderTimed(rate, "a CPU") for rate in (1.0, 4.0))
    assert together([slow, fast]) == EncoderTimed(0.8, "a CPU")
    assert together([fast]) == fast
    assert together([fast, None]) is None
    assert together([fast, EncoderTimed(9.0, "a GPU")]) is None


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"images_per_second": "x"}'])
def test_the_cache_keeps_the_last_one_of_each_encoder(damage: str, tmp_path: Path) -> None:
    store, other = FeatureStore(tmp_path, "one"), FeatureStore(tmp_path, "other")
    assert kept_speed(store) is None
    keep_speed(store, EncoderTimed(1.5, "a CPU"))
    keep_speed(store, EncoderTimed(2.5, "a GPU"))
    assert kept_speed(store) == EncoderTimed(2.5, "a GPU")
    assert kept_speed(other) is None
    (tmp_path / "one" / FILE).write_text(damage)
    assert kept_speed(store) is None
