from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from search_spaces.schedulers import AshaConfig
from tests.tune.search.simulated import rungs_of
from tune.search.schedulers.asha import Asha


def rungs(budget: int, eta: int = 3, skips: bool = False) -> Asha:
    """Rungs at 10, 30 and 90; nothing has started."""
    settings = AshaConfig(reduction_factor=eta)
    return Asha(settings, (10, 30, 90), range(budget), skips)


def report(cell: Asha, trial: int, score: float, milestone: int = 10) -> bool:
    """Start the trial if it is new, let it report, and return whether it goes on."""
    cell.start(trial)
    cell.record(milestone, trial, score)
    if cell.waits(trial) and cell.admits(trial):
        cell.start(trial)
    return not cell.waits(trial)


# Who goes on


def test_the_best_third_of_a_rung_goes_on_as_soon_as_it_is_known() -> None:
    cell = rungs(9)
    assert [report(cell, n, s) for n, s in enumerate([0.3, 0.1, 0.2])] == [False] * 3
    assert cell.promotable() == 0
    cell.start(0)
    assert cell.promotable() is None  # a third of three is one
    assert [report(cell, n, s) for n, s in ((3, 0.25), (4, 0.1))] == [False] * 2
    assert cell.promotable() is None  # there is one place in five still
    assert not report(cell, 5, 0.1)
    assert cell.promotable() == 3


def test_a_trial_that_is_promotable_when_it_reports_just_goes_on() -> None:
    cell = rungs(9)
    assert [report(cell, n, s) for n, s in enumerate([0.1, 0.2, 0.3])] == [False, False, True]


def test_promotions_come_from_the_highest_rung_first() -> None:
    cell = rungs(27)
    for trial in range(9):
        report(cell, trial, trial / 10)  # 2, 5 and 8 go on
    for trial in (8, 5, 2):
        assert not cell.waits(trial)
        report(cell, trial, trial / 10, 30)
    for trial in (9, 10, 11):
        cell.start(trial)
        cell.record(10, trial, 0.5)
    assert cell.promotable() == 8
    cell.start(8)
    assert cell.promotable() == 7


def test_of_a_full_rung_at_least_one_goes_on() -> None:
    cell = rungs(2)
    assert not report(cell, 0, 0.5)
    assert not report(cell, 1, 0.2)
    assert cell.hopeless() == [1]
    assert cell.promotable() == 0


def test_those_without_hope_are_known_early() -> None:
    cell = rungs(9)
    for trial, score in enumerate([0.5, 0.4, 0.3, 0.2]):
        report(cell, trial, score)
    assert cell.hopeless() == [3]  # three are better, and nine trials have three places
    cell.end(3)
    assert cell.hopeless() == []


def test_trials_that_end_elsewhere_make_a_rung_full() -> None:
    cell = rungs(4)
    for trial, score in enumerate([0.5, 0.4]):
        report(cell, trial, score)
    for trial in (2, 3):  # two diverge on their way
        assert cell.promotable() is None
        cell.start(trial)
        cell.end(trial)
    assert cell.promotable() == 0
    assert cell.hopeless() == [1]


scores = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])


@given(st.lists(scores, max_size=3), st.lists(st.tuples(scores, scores), min_size=1, max_size=12))
def test_trials_that_no_rung_judges_go_on_and_change_nothing_for_the_others(
    free: list[float], others: list[tuple[float, float]]
) -> None:
    shift = len(free)
    among, alone = rungs(shift + len(others)), rungs(len(others))
    for trial in range(shift):
        among.start(trial, math.inf)
        assert report(among, trial, free[trial])
    for trial, (first, second) in enumerate(others):
        goes_on = report(alone, trial, first)
        assert report(among, trial + shift, first) == goes_on
        if goes_on:
            assert report(among, trial + shift, second, 30) == report(alone, trial, second, 30)
        assert among.hopeless() == [n + shift for n in alone.hopeless()]
        promotable = alone.promotable()
        assert among.promotable() == (None if promotable is None else promotable + shift)
    assert all(report(among, trial, score, 30) for trial, score in enumerate(free))


def test_a_trial_is_judged_from_the_rung_on_that_it_was_started_for() -> None:
    cell = rungs(12, skips=True)
    cell.start(0, judged_from=30)
    assert report(cell, 0, 0.1, 10)  # worse than the others will be, and goes on
    for trial in range(1, 4):
        cell.start(trial)
        report(cell, trial, 0.5 + trial / 10, 10)
    assert 0 not in rungs_of(cell)[10]
    assert not report(cell, 0, 0.1, 30)
    assert rungs_of(cell)[30] == {0: 0.1}
    # Nobody is given up who may still be among the promoted: further late ones may come.
    assert cell.hopeless() == []


def test_a_trial_is_judged_by_the_next_rung_where_it_was_started_between_two() -> None:
    cell = rungs(9, skips=True)
    cell.start(0, judged_from=11)
    assert report(cell, 0, 0.0)
    assert rungs_of(cell)[10] == {}
    assert not report(cell, 0, 0.0, 30)


def test_a_trial_judged_from_the_horizon_on_is_recorded_there_and_never_waits() -> None:
    cell = rungs(3)
    cell.start(0, judged_from=90)
    assert all(report(cell, 0, 0.1, milestone) for milestone in (10, 30, 90))
    assert rungs_of(cell) == {10: {}, 30: {}, 90: {0: 0.1}}


def test_trials_that_no_rung_judges_take_no_places_by_ranking_first() -> None:
    cell = rungs(6)
    for trial in (0, 1):
        cell.start(trial, math.inf)
        assert report(cell, trial, 1.0)
    assert [report(cell, n, n / 10) for n in range(2, 6)] == [False, False, True, True]


def test_those_still_to_begin_beyond_a_rung_will_count_at_the_next() -> None:
    cell = rungs(12, skips=True)
    for trial, score in enumerate([0.5, 0.4, 0.3]):
        cell.start(trial, judged_from=30)
        report(cell, trial, score, 30)
    assert cell.hopeless() == []  # twelve trials would have four places


def test_between_rungs_and_twice_at_one_everybody_goes_on() -> None:
    cell = rungs(3)
    for trial, score in enumerate([0.1, 0.2, 0.3]):
        report(cell, trial, score)
    for milestone in (10, 20):
        assert report(cell, 2, 0.0, milestone)
    assert rungs_of(cell) == {10: {0: 0.1, 1: 0.2, 2: 0.3}, 30: {}, 90: {}}
