"""How far confidences can be believed: numbers that can be checked by eye."""

from __future__ import annotations

import numpy as np
import pytest

from report.calibration import Confidences
from report.html.words import wilson


def test_confidence_that_is_what_it_says_has_no_error() -> None:
    sure = np.full((1, 10), 0.8)
    right = np.arange(10)[None] < 8
    assert Confidences(sure, right).error() == pytest.approx(0)
    (only,) = Confidences(sure, right).bins()
    assert (only.confidence, only.accuracy, only.images) == (pytest.approx(0.8), 0.8, 10)


def test_the_error_is_averaged_over_fits_and_weighted_by_images() -> None:
    # The first fit is 0.95 sure and half right, the second 0.55 sure of 3 of 4 and always right.
    sure = np.array([[0.95] * 4, [0.55] * 3 + [1.0]])
    right = np.array([[True, True, False, False], [True] * 4])
    assert Confidences(sure, right).error() == pytest.approx((0.45 + 0.45 * 3 / 4) / 2)


def test_coverage_takes_equal_confidences_together() -> None:
    sure, right = np.array([[0.9, 0.9, 0.5, 0.3]]), np.array([[True, False, True, False]])
    threshold, share, accuracy = Confidences(sure, right).coverage()
    assert threshold.tolist() == [0.9, 0.5, 0.3]
    assert share.tolist() == [0.5, 0.75, 1.0]
    assert accuracy.tolist() == [0.5, pytest.approx(2 / 3), 0.5]


@pytest.mark.parametrize(
    ("right", "n", "ends"),
    [(8, 10, (0.490, 0.943)), (10, 10, (0.722, 1.0)), (0, 10, (0.0, 0.278)), (0, 0, (0.0, 1.0))],
)
def test_wilson_is_the_published_interval(right: int, n: int, ends: tuple[float, float]) -> None:
    assert wilson(right, n) == pytest.approx(ends, abs=0.001)
