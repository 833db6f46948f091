from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from data import SourceConfig, UnreadableImageError
from data.sources import SOURCES, Listing
from data.sources.digits import CLASSES, DigitsSource


def list_digits() -> Listing:
    return SOURCES["digits"].list_images(SourceConfig(source="digits"))


def test_there_are_1797_scans_of_ten_classes() -> None:
    listing = list_digits()
    assert len(set(listing.keys)) == len(listing.labels) == 1797
    assert listing.classes == CLASSES
    assert Counter(listing.labels)["zero"] == 178
    assert set(listing.splits) == {"train"}


def test_a_scan_is_drawn_in_grey_on_a_black_border() -> None:
    pixels = np.asarray(DigitsSource().image("digits/0007"))
    assert pixels.shape == (24, 24, 3)
    assert (pixels == pixels[..., :1]).all()
    inner = np.zeros((24, 24), dtype=bool)
    inner[2:-2, 2:-2] = True
    assert not pixels[~inner].any()
    assert pixels[inner].max() > 200


def test_digests_are_stable_and_almost_all_different() -> None:
    source = pickle.loads(pickle.dumps(DigitsSource()))
    digests = {source.digest(key) for key in list_digits().keys[:200]}
    assert len(digests) == 200
    assert source.digest("digits/0000") == DigitsSource().digest("digits/0000")


@pytest.mark.parametrize("key", ["digits/1797", "digits/x"])
def test_a_scan_that_is_not_there_is_unreadable(key: str) -> None:
    with pytest.raises(UnreadableImageError):
        DigitsSource().image(key)
