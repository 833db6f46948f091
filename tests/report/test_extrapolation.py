"""Learning curves are extended by several families, and their spread says what is not known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.extrapolation import FAMILIES, forecast

SIZES = [10.0, 20.0, 50.0, 100.0, 200.0]
AHEAD = [400.0, 800.0]


@pytest.mark.parametrize(
    ("family", "error"),
    [
        ("power law", lambda n: 0.4 * (n / 10) ** -0.5 + 0.02),
        ("logarithmic", lambda n: 0.5 - 0.05 * np.log(n)),
        ("exponential", lambda n: 0.3 * np.exp(-n / 80) + 0.05),
    ],
)
def test_a_family_extends_its_own_curve(family: str, error: object) -> None:
    assert callable(error)
    found = forecast(SIZES, [1 - error(n) for n in SIZES], [0.001] * 5, AHEAD)
    assert found is not None
    assert found.curves[family] == pytest.approx([1 - error(n) for n in AHEAD], abs=0.004)


def test_fewer_than_four_sizes_say_nothing() -> None:
    assert forecast(SIZES[:3], [0.5, 0.6, 0.7], [0.01] * 3, AHEAD) is None
    assert forecast([10, 10, 20, 30], [0.5, 0.5, 0.6, 0.7], [0.01] * 4, AHEAD) is None


@given(
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.lists(st.floats(0, 0.2), min_size=5, max_size=5),
)
def test_whatever_was_measured_the_spread_is_of_accuracies(
    accuracy: list[float], half: list[float]
) -> None:
    found = forecast(SIZES, accuracy, half, AHEAD)
    assert found is not None
    assert {*found.curves} == {family.name for family in FAMILIES}
    assert ((found.low >= 0) & (found.low <= found.high) & (found.high <= 1)).all()
    for curve in found.curves.values():
        assert ((curve >= 0) & (curve <= 1)).all()
        assert (np.diff(curve) >= -1e-9).all()  # more images never hurt


def test_wider_intervals_have_a_wider_spread() -> None:
    accuracy = [0.6, 0.7, 0.78, 0.82, 0.85]
    narrow, wide = (forecast(SIZES, accuracy, [half] * 5, AHEAD) for half in (0.002, 0.05))
    assert narrow is not None
    assert wide is not None
    assert (wide.high - wide.low > narrow.high - narrow.low).all()
