from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from search_spaces.schedulers import HyperbandConfig
from tests.tune.search.schedulers.test_asha import report
from tests.tune.search.simulated import rungs_of
from tune.search.schedulers.hyperband import Hyperband

RUNGS = (10, 30, 90)


@given(st.integers(1, 6), st.integers(2, 5), st.integers(1, 80))
def test_brackets_keep_hyperbands_shares_at_every_number(n: int, eta: int, budget: int) -> None:
    settings = HyperbandConfig(rungs=n, reduction_factor=eta)
    points = Hyperband.rungs(settings, eta**n, 0)
    cell = Hyperband(settings, points, range(budget))
    count = len(cell.brackets)
    assert count == len(points) == n
    weights = [math.ceil(count / (s + 1) * eta**s) for s in reversed(range(count))]
    held = Counter(cell.bracket_of(trial) for trial in range(budget))
    for bracket, weight in enumerate(weights):
        assert abs(held[bracket] - budget * weight / sum(weights)) < max(1, count - 1)


def test_brackets_of_three_rungs() -> None:
    cell = Hyperband(HyperbandConfig(), RUNGS, range(17))
    assert [bracket.milestones for bracket in cell.brackets] == [(10, 30, 90), (30, 90), (90,)]
    held = Counter(cell.bracket_of(trial) for trial in range(17))
    assert held == {0: 9, 1: 5, 2: 3}
    assert {cell.bracket_of(trial) for trial in range(4)} == {0, 1, 2}


def first_trials(cell: Hyperband) -> list[int]:
    """The first trial of each of three brackets."""
    return [next(n for n in range(17) if cell.bracket_of(n) == b) for b in range(3)]


def test_brackets_judge_apart() -> None:
    cell = Hyperband(HyperbandConfig(), RUNGS, range(17))
    first = first_trials(cell)
    assert report(cell, first[2], 0.0)
    assert report(cell, first[1], 0.0)
    assert not report(cell, first[0], 1.0)
    assert not report(cell, first[1], 0.0, 30)
    assert report(cell, first[2], 0.0, 30)
    assert report(cell, first[2], 0.2, 90)
    assert rungs_of(cell) == {10: {first[0]: 1.0}, 30: {first[1]: 0.0}, 90: {first[2]: 0.2}}


def test_of_all_brackets_the_highest_rung_promotes_first() -> None:
    cell = Hyperband(HyperbandConfig(), RUNGS, range(17))
    low = [n for n in range(17) if cell.bracket_of(n) == 0]
    high = [n for n in range(17) if cell.bracket_of(n) == 1]
    for trial in low[:3]:
        report(cell, trial, 1 - trial / 100)
    assert cell.promotable() == low[0]
    for trial in high[:3]:
        report(cell, trial, 0.5 - trial / 100, 30)
    assert cell.promotable() == high[0]
    cell.start(high[0])
    assert cell.promotable() == low[0]
