"""`benchmarks/oracle.py` knows all curves and still sees trials by their rungs alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.oracle import STEP, Curves, Plan, least_regrets, shared

SHARES = np.array([0.25, 0.5, 1.0])
ACCURACY = np.array([0.5, 0.6, 0.7, 0.9])  # of four configurations, in the end


def curves(prospects: list[float]) -> Curves:
    """Curves that end at `ACCURACY` and show nothing before but `prospects`."""
    found = np.zeros((len(ACCURACY), len(SHARES), 3))
    found[:, -1, 0] = ACCURACY
    found[:, :, 2] = np.array(prospects)[:, None]
    return found


def test_a_trial_costs_what_it_runs() -> None:
    assert Plan((2,), (4,)).cost(SHARES) == 4
    assert Plan((0, 2), (4, 1)).cost(SHARES) == pytest.approx(4 * 0.25 + 0.75)
    assert Plan((0, 1, 2), (4, 2, 1)).cost(SHARES) == pytest.approx(4 * 0.25 + 2 * 0.25 + 0.5)


@pytest.mark.parametrize(("whole", "accuracy"), [(1, 0.5), (3, 0.7), (4, 0.9)])
def test_it_promotes_by_prospects_alone(whole: int, accuracy: float) -> None:
    misleading, order = curves([0.4, 0.3, 0.2, 0.1]), np.arange(4)[None]
    assert Plan((0, 2), (4, whole)).found(misleading, order) == pytest.approx(accuracy)


def test_rungs_that_tell_save_compute_and_rungs_that_mislead_do_not() -> None:
    telling = least_regrets(curves([0.1, 0.2, 0.3, 0.4]), SHARES, 4)
    misleading = least_regrets(curves([0.4, 0.3, 0.2, 0.1]), SHARES, 4)
    for least in (telling, misleading):
        assert least[-1] == pytest.approx(0)
        assert (np.diff(least[round(1 / STEP) :]) <= 0).all()
    half = round(2 / STEP)
    assert telling[half] == pytest.approx(0)
    assert misleading[half] > 0.1


def test_splitting_compute_is_never_worse_than_equal_shares() -> None:
    cells = [
        least_regrets(curves(p), SHARES, 4) for p in ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1])
    ]
    equal, split = np.mean(cells, axis=0), shared(cells)
    budgets = range(round(1 / STEP), len(equal))
    assert all(split[2 * budget] <= equal[budget] + 1e-12 for budget in budgets)
    assert any(split[2 * budget] < equal[budget] - 1e-6 for budget in budgets)
