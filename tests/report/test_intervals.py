"""Intervals: the textbook's, over seeds and over images, and how the two join."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from report.intervals import Interval, over_images, t_interval

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
    assert t_interval([0.9]) == Interval(0.9, None)
    assert t_interval([0.5, 0.5, 0.5]).half_width == 0


def right(count: int, images: int) -> NDArray[np.float64]:
    """Whether each image is right: the first `count` of them are."""
    return (np.arange(images) < count).astype(float)


@pytest.mark.parametrize(
    "values",
    [
        right(90, 100),
        right(50, 2500),
        right(24000, 25000),
        np.random.default_rng(1).choice([-1, -0.5, 0, 0.5, 1], 500),
    ],
)
def test_bootstrap_is_the_standard_error(values: NDArray[np.float64]) -> None:
    standard_error = values.std() / values.size**0.5
    assert over_images(values) == pytest.approx(1.96 * standard_error, rel=0.05)


def test_bootstrap_is_that_of_resampled_images() -> None:
    values = np.random.default_rng(2).random(60)
    rows = np.random.default_rng(3).integers(0, 60, (2000, 60))
    assert over_images(values) == pytest.approx(1.96 * values[rows].mean(axis=1).std(), rel=0.08)


@given(st.integers(5, 95), st.integers(20, 200))
def test_more_images_of_the_same_kind_shrink_the_interval(percent: int, images: int) -> None:
    few = over_images(right(percent * images // 100, images))
    many = over_images(np.repeat(right(percent * images // 100, images), 9))
    assert many == pytest.approx(few / 3, rel=0.15)


@given(arrays(float, st.integers(1, 50), elements=st.floats(-1, 1)))
def test_same_images_same_interval_in_any_order(values: NDArray[np.float64]) -> None:
    assert over_images(values) == over_images(values[::-1])


@given(st.floats(-1, 1), st.integers(1, 5000))
def test_equal_images_do_not_prove_that_all_are(value: float, images: int) -> None:
    """As many as the bound allows others are missed with a probability of 2.5%."""
    bound = over_images(np.full(images, value))
    assert (1 - bound) ** images == pytest.approx(0.025)


@given(arrays(float, st.integers(1, 50), elements=st.floats(-1, 1)))
def test_groups_of_one_image_are_as_none(values: NDArray[np.float64]) -> None:
    groups = np.arange(values.size)
    assert over_images(values, groups) == pytest.approx(over_images(values), rel=1e-9)


@given(st.integers(20, 200), st.integers(1, 20))
def test_a_burst_of_one_photo_tells_no_more_than_the_photo(photos: int, size: int) -> None:
    values, groups = right(photos // 3, photos), np.repeat(np.arange(photos), size)
    bursts = np.repeat(values, size)
    over = over_images(bursts, groups)
    assert over == pytest.approx(over_images(values), rel=1e-9)
    assert over == pytest.approx(size**0.5 * over_images(bursts), rel=0.15)


def test_bootstrap_over_groups_is_that_of_resampled_groups() -> None:
    """Of sizes 1 to 8: a resample's mean is over the images it has, as many as they are."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    values = (rng.random(groups.size) < rng.random(60)[groups]).astype(float)
    means = [
        np.concatenate([values[groups == group] for group in rng.integers(0, 60, 60)]).mean()
        for _ in range(2000)
    ]
    assert over_images(values, groups) == pytest.approx(1.96 * np.std(means), rel=0.08)
    assert over_images(values, groups) > 1.2 * over_images(values)


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 9)), min_size=1), st.randoms())
def test_same_groups_same_interval_in_any_order(
    rows: list[tuple[float, int]], random: Random
) -> None:
    def interval() -> float:
        values, names = map(np.array, zip(*rows, strict=True))
        return over_images(values, np.unique(names, return_inverse=True)[1])

    before = interval()
    random.shuffle(rows)
    assert interval() == pytest.approx(before, rel=1e-9)


@given(st.integers(1, 300), st.integers(1, 9), st.sampled_from(["equal", "half"]))
def test_groups_of_one_mean_do_not_prove_that_all_are(groups: int, size: int, what: str) -> None:
    burst = np.ones(2 * size) if what == "equal" else np.repeat([0.0, 1.0], size)
    bound = over_images(np.tile(burst, groups), np.repeat(np.arange(groups), 2 * size))
    assert (1 - bound) ** groups == pytest.approx(0.025)


def test_sources_add_up_as_variances() -> None:
    assert Interval(0.5, 0.03, 0.04).half_width == pytest.approx(0.05)
    assert Interval(0.5, None, 0.04).half_width == 0.04
    assert Interval(0.5, 0.03).half_width == 0.03
    assert Interval(0.5, None).half_width is None


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(0.02, 0.01), True),
        (Interval(-0.02, 0.01), True),
        (Interval(0.02, 0.01, 0.03), False),
        (Interval(0.02, None), False),
        (Interval(0.0, 0.0, 0.0), False),
    ],
)
def test_shown_leaves_zero_out(interval: Interval, shown: bool) -> None:
    assert interval.shown == shown


def test_ends() -> None:
    assert Interval(0.021, 0.009).ends() == "1.2 to 3.0"
    assert Interval(-0.021, 0.009).ends() == "-3.0 to -1.2"
    assert Interval(-0.021, 0.009).negative().ends() == "1.2 to 3.0"
    assert Interval(-0.00001, 0.0).ends() == "0.00 to 0.00"
    assert Interval(0.022, 0.0218).ends() == "0.02 to 4.38"  # it leaves zero out


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.8734, 0.0081), "87.3 ± 0.8"),
        (Interval(1.0, 0.0), "100.0 ± 0.0"),
        (Interval(0.5, None), "50.0"),
        (Interval(0.5, 0.03, 0.04), "50.0 ± 5.0"),
    ],
)
def test_points(interval: Interval, text: str) -> None:
    assert interval.points() == text
