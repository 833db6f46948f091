from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.experiment import AshaConfig, SearchConfig
from tune.rungs import Rungs, milestones, rung_milestones

searches = st.builds(
    SearchConfig,
    evaluations=st.integers(1, 12),
    scheduler=st.sampled_from(["asha", "none"]),
    asha=st.builds(
        AshaConfig,
        rungs=st.integers(1, 10),
        reduction_factor=st.integers(2, 5),
        min_records=st.integers(1, 6),
    ),
)
horizons = st.integers(1, 10**7)
# Few different values, so that many tie; NaN among them.
score_lists = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan]), max_size=30)


def rungs(min_records: int = 1, reduction_factor: int = 3) -> Rungs:
    asha = AshaConfig(rungs=3, reduction_factor=reduction_factor, min_records=min_records)
    return Rungs(SearchConfig(asha=asha), 90)


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
    assert len(found) <= (search.asha.rungs if search.scheduler == "asha" else 1)


def test_rungs_and_evaluations_of_a_round_horizon() -> None:
    assert rung_milestones(90, SearchConfig()) == (10, 30, 90)
    assert milestones(90, SearchConfig()) == (10, 30, 60, 90)
    assert milestones(90, SearchConfig(scheduler="none", evaluations=2)) == (45, 90)


@given(score_lists, st.integers(1, 6), st.integers(2, 4))
def test_the_best_share_of_a_rung_goes_on(
    scores: list[float], min_records: int, reduction_factor: int
) -> None:
    group = rungs(min_records, reduction_factor)
    lowest = min(group.records)
    seen: list[float] = []
    for trial, score in enumerate(scores):
        goes_on = group.record(lowest, trial, score)
        if math.isnan(score):
            assert not goes_on
            continue
        seen.append(score)
        rank = sorted(seen, reverse=True).index(score)  # of ties, the best
        expected = len(seen) < min_records or rank < math.ceil(len(seen) / reduction_factor)
        assert goes_on == expected


@given(score_lists)
def test_nan_leaves_no_record(scores: list[float]) -> None:
    group = rungs()
    for trial, score in enumerate(scores):
        group.record(10, trial, score)
    assert group.records[10] == {i: s for i, s in enumerate(scores) if not math.isnan(s)}


@given(score_lists, st.integers(0, 29), st.sampled_from([0.0, 1.0]))
def test_a_second_record_changes_nothing(scores: list[float], again: int, other: float) -> None:
    once, twice = rungs(), rungs()
    for trial, score in enumerate(scores):
        decision = once.record(30, trial, score)
        assert twice.record(30, trial, score) == decision
        if again in twice.records[30]:
            assert twice.record(30, again, other)
    assert once.records == twice.records


def test_nobody_is_stopped_before_a_rung_has_enough_records() -> None:
    group = rungs(min_records=4)
    assert [group.record(10, i, s) for i, s in enumerate([0.9, 0.5, 0.1])] == [True] * 3
    assert not group.record(10, 3, 0.05)


def test_ties_go_on() -> None:
    group = rungs()
    assert all(group.record(10, trial, 0.5) for trial in range(20))


def test_the_worst_goes_on_at_a_milestone_without_a_rung() -> None:
    group = rungs()
    for trial in range(10):
        group.record(30, trial, 1.0)
    assert group.record(60, 10, 0.0)
    assert not group.record(30, 10, 0.0)
    assert 60 not in group.records


def test_rungs_are_independent() -> None:
    group = rungs()
    for trial in range(10):
        group.record(10, trial, 1.0)
    assert group.record(30, 10, 0.0)


@pytest.mark.parametrize("reduction_factor", [2, 3, 4])
def test_of_falling_scores_only_the_first_goes_on(reduction_factor: int) -> None:
    group = rungs(1, reduction_factor)
    decisions = [
        group.record(min(group.records), trial, -trial) for trial in range(reduction_factor)
    ]
    assert decisions == [True] + [False] * (reduction_factor - 1)
