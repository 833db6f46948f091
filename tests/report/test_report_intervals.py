"""Intervals: the textbook's, and paired means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from report.intervals import Interval, paired_difference, t_interval

accuracies = st.floats(0, 1)


def test_interval_by_hand() -> None:
    # mean 0.92, s = 0.02, t(0.975, 2) = 4.3027: 4.3027 * 0.02 / sqrt(3)
    interval = t_interval([0.90, 0.92, 0.94])
    assert interval.mean == pytest.approx(0.92)
    assert interval.half_width == pytest.approx(0.049683, abs=1e-6)


@given(st.lists(accuracies, min_size=2, max_size=10).filter(lambda values: np.ptp(values) > 1e-6))
def test_interval_is_scipys(values: list[float]) -> None:
    ours = t_interval(values)
    assert ours.half_width is not None
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ours.mean - ours.half_width == pytest.approx(theirs.low, abs=1e-9)
    assert ours.mean + ours.half_width == pytest.approx(theirs.high, abs=1e-9)


def test_one_seed_has_no_interval_and_equal_seeds_have_none_to_speak_of() -> None:
    assert t_interval([0.9]) == Interval(0.9, None, 1)
    assert t_interval([0.5, 0.5, 0.5]).half_width == 0


@given(
    st.dictionaries(st.integers(0, 9), accuracies), st.dictionaries(st.integers(0, 9), accuracies)
)
def test_paired_difference_is_the_mean_of_differences_over_shared_seeds(
    ours: dict[int, float], theirs: dict[int, float]
) -> None:
    shared = ours.keys() & theirs.keys()
    difference = paired_difference(ours, theirs)
    if not shared:
        assert difference is None
        return
    assert difference is not None
    assert difference.n == len(shared)
    assert difference.mean == pytest.approx(np.mean([ours[s] - theirs[s] for s in shared]))


def test_pairing_removes_what_the_seeds_share() -> None:
    ours, theirs = {0: 0.92, 1: 0.82, 2: 0.72}, {0: 0.90, 1: 0.80, 2: 0.70}
    difference = paired_difference(ours, theirs)
    assert difference is not None
    assert difference.points("+") == "+2.0 ± 0.0"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.8734, 0.0081, 5), "87.3 ± 0.8"),
        (Interval(1.0, 0.0, 2), "100.0 ± 0.0"),
        (Interval(0.5, None, 1), "50.0"),
    ],
)
def test_points(interval: Interval, text: str) -> None:
    assert interval.points() == text
