from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.schema import AshaConfig, SearchConfig
from tests.tune.search.simulated import records
from tune.search.schedulers.asha import Rungs, milestones, rung_milestones

searches = st.builds(
    SearchConfig,
    evaluations=st.integers(1, 12),
    scheduler=st.sampled_from(["asha", "hyperband", "none"]),
    asha=st.builds(AshaConfig, rungs=st.integers(1, 10), reduction_factor=st.integers(2, 5)),
)
horizons = st.integers(1, 10**7)


@given(searches, horizons)
def test_milestones_increase_to_the_horizon(search: SearchConfig, horizon: int) -> None:
    points = milestones(horizon, search)
    assert list(points) == sorted(set(points))
    assert points[0] > 0
    assert points[-1] == horizon


@given(searches, horizons)
def test_every_rung_is_a_milestone(search: SearchConfig, horizon: int) -> None:
    found = rung_milestones(horizon, search)
    assert set(found) <= set(milestones(horizon, search))
    assert found[-1] == horizon
    assert list(found) == sorted(set(found))
    assert len(found) <= (1 if search.scheduler == "none" else search.asha.rungs)


@given(searches, st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_rung_that_comes_before_the_images_were_seen_does_not_judge(
    search: SearchConfig, horizon: int, images: int
) -> None:
    every = rung_milestones(horizon, search)
    found = rung_milestones(horizon, search, images)
    assert found == every[len(every) - len(found) :]  # the last ones
    assert len(found) >= min(2, len(every))  # one that judges, if there is any
    enough = search.asha.epochs * images
    assert all(rung >= enough for rung in found[:-2])
    assert not [rung for rung in every if rung >= enough and rung not in found]


@given(searches, horizons)
def test_what_is_solved_for_is_evaluated_once(search: SearchConfig, horizon: int) -> None:
    assert milestones(horizon, search, trained=False) == (horizon,)


def test_rungs_and_evaluations_of_a_round_horizon() -> None:
    assert rung_milestones(90, SearchConfig()) == (10, 30, 90)
    assert milestones(90, SearchConfig()) == (10, 30, 60, 90)
    assert milestones(90, SearchConfig(scheduler="none", evaluations=2)) == (45, 90)


def rungs(budget: int, scheduler: str = "asha", eta: int = 3, grace: bool = False) -> Rungs:
    """Rungs at 10, 30 and 90 where eta is 3; nothing has started."""
    asha = AshaConfig(rungs=3, reduction_factor=eta, grace=grace)
    return Rungs(SearchConfig.model_validate({"scheduler": scheduler, "asha": asha}), 90, budget)


def report(cell: Rungs, trial: int, score: float, milestone: int = 10) -> bool:
    """Start the trial if it is new, let it report, and tell whether it goes on."""
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
def test_free_trials_are_never_held_back_and_change_nothing_for_the_others(
    free: list[float], others: list[tuple[float, float]]
) -> None:
    shift = len(free)
    among, alone = rungs(shift + len(others)), rungs(len(others))
    for trial in range(shift):
        among.start(trial, free=True)
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


def test_late_trials_are_judged_by_the_last_rung_alone() -> None:
    cell = Rungs(SearchConfig(transfer=1), 90, 12)
    cell.start(0, late=True)
    assert report(cell, 0, 0.1, 10)  # worse than the others will be, and goes on
    for trial in range(1, 4):
        cell.start(trial)
        report(cell, trial, 0.5 + trial / 10, 10)
    assert 0 not in records(cell)[10]
    assert not report(cell, 0, 0.1, 30)
    assert records(cell)[30] == {0: 0.1}
    # Nobody is given up who may still be among the promoted: further late ones may come.
    assert cell.hopeless() == []


def test_late_trials_without_a_rung_to_judge_them_go_on() -> None:
    cell = Rungs(SearchConfig(transfer=1, scheduler="none"), 90, 3)
    cell.start(0, late=True)
    assert report(cell, 0, 0.1, 30)
    assert report(cell, 0, 0.1, 90)


def test_free_trials_that_rank_first_leave_the_others_their_places() -> None:
    cell = rungs(6)
    for trial in (0, 1):
        cell.start(trial, free=True)
        assert report(cell, trial, 1.0)
    assert [report(cell, n, n / 10) for n in range(2, 6)] == [False, False, True, True]


def test_nobody_is_judged_or_recorded_in_its_grace() -> None:
    cell = rungs(9, grace=True)
    cell.start(0, grace=10)
    assert report(cell, 0, 0.0)
    assert records(cell)[10] == {}
    assert not report(cell, 0, 0.0, 30)


def test_those_still_to_begin_beyond_a_rung_will_count_at_the_next() -> None:
    cell = rungs(12, grace=True)
    for trial, score in enumerate([0.5, 0.4, 0.3]):
        cell.start(trial, grace=10)
        report(cell, trial, score, 30)
    assert cell.hopeless() == []  # twelve trials would have four places


def test_between_rungs_and_twice_at_one_everybody_goes_on() -> None:
    cell = rungs(3)
    for trial, score in enumerate([0.1, 0.2, 0.3]):
        report(cell, trial, score)
    for milestone in (10, 20):
        assert report(cell, 2, 0.0, milestone)
    assert records(cell) == {10: {0: 0.1, 1: 0.2, 2: 0.3}, 30: {}, 90: {}}


# Hyperband's brackets


@given(st.integers(1, 6), st.integers(2, 5), st.integers(1, 80))
def test_brackets_keep_hyperbands_shares_at_every_number(n: int, eta: int, budget: int) -> None:
    asha = AshaConfig(rungs=n, reduction_factor=eta)
    cell = Rungs(SearchConfig(scheduler="hyperband", asha=asha), eta**n, budget)
    count = len(cell.brackets)
    weights = [math.ceil(count / (s + 1) * eta**s) for s in reversed(range(count))]
    held = Counter(cell.bracket_of(trial) for trial in range(budget))
    for bracket, weight in enumerate(weights):
        assert abs(held[bracket] - budget * weight / sum(weights)) < max(1, count - 1)


def test_brackets_of_three_rungs() -> None:
    cell = rungs(17, "hyperband")
    assert [[r.milestone for r in b.rungs] for b in cell.brackets] == [
        [10, 30, 90],
        [30, 90],
        [90],
    ]
    held = Counter(cell.bracket_of(trial) for trial in range(17))
    assert held == {0: 9, 1: 5, 2: 3}
    assert {cell.bracket_of(trial) for trial in range(4)} == {0, 1, 2}


@pytest.mark.parametrize("scheduler", ["asha", "none"])
def test_other_schedulers_have_one_bracket(scheduler: str) -> None:
    assert len(rungs(17, scheduler).brackets) == 1


def test_brackets_judge_apart() -> None:
    cell = rungs(17, "hyperband")
    first = {b: next(n for n in range(17) if cell.bracket_of(n) == b) for b in range(3)}
    assert report(cell, first[2], 0.0)
    assert report(cell, first[1], 0.0)
    assert not report(cell, first[0], 1.0)
    assert not report(cell, first[1], 0.0, 30)
    assert report(cell, first[2], 0.0, 30)
