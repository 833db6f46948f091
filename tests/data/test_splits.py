from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import partition_indices, stratified_split

labels_of_rows = st.lists(st.integers(0, 6), min_size=1, max_size=120)
seeds = st.integers(0, 5)
percents = st.floats(0.5, 100)
fractions = st.floats(0.05, 0.9)


@given(labels_of_rows, fractions, seeds)
def test_a_split_divides_the_rows(labels: list[int], fraction: float, seed: int) -> None:
    kept, drawn = stratified_split(labels, None, fraction, seed)
    assert sorted([*kept, *drawn]) == list(range(len(labels)))
    assert list(kept) == sorted(kept)
    assert list(drawn) == sorted(drawn)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abcdefghij")), min_size=1), fractions)
def test_groups_never_straddle_and_every_class_keeps_a_row(
    rows: list[tuple[int, str]], fraction: float
) -> None:
    labels, groups = [row[0] for row in rows], [row[1] for row in rows]
    kept, drawn = stratified_split(labels, groups, fraction, seed=0)
    assert not {groups[row] for row in kept} & {groups[row] for row in drawn}
    assert {labels[row] for row in kept} == set(labels)


@given(labels_of_rows, seeds)
def test_something_is_drawn_where_a_class_can_spare_it(labels: list[int], seed: int) -> None:
    _, drawn = stratified_split(labels, None, 0.05, seed)
    assert bool(len(drawn)) == (max(Counter(labels).values()) > 1)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.05, 0.5), seeds)
def test_a_split_draws_its_fraction(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, drawn = stratified_split(labels, None, fraction, seed)
    assert len(drawn) == pytest.approx(max(1, fraction * len(labels)), abs=0.5 + 1e-9)


def test_a_split_is_stratified_over_groups() -> None:
    labels = np.repeat([0, 1], [300, 100])
    groups = [str(row // 5) for row in range(400)]
    _, drawn = stratified_split(labels, groups, 0.2, seed=3)
    assert Counter(labels[drawn].tolist()) == {0: 60, 1: 20}


def test_two_large_groups_still_give_one_up() -> None:
    kept, drawn = stratified_split([0, 1] * 10, ["a", "a", "b", "b"] * 5, 0.1, seed=0)
    assert len(kept) == len(drawn) == 10


def test_seeds_decide_the_draw() -> None:
    labels = np.arange(200) % 4
    draws = [tuple(stratified_split(labels, None, 0.3, seed)[1]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@given(labels_of_rows, percents, percents, seeds)
def test_partitions_nest(labels: list[int], one: float, other: float, seed: int) -> None:
    small, large = (partition_indices(labels, p, seed) for p in sorted((one, other)))
    assert set(small) <= set(large)


@given(labels_of_rows, percents, seeds)
def test_a_partition_has_its_size_and_every_class(
    labels: list[int], percent: float, seed: int
) -> None:
    rows = partition_indices(labels, percent, seed)
    classes = set(labels)
    assert len(rows) == len(set(rows)) == max(len(classes), round(percent / 100 * len(labels)))
    assert {labels[row] for row in rows} == classes
    assert list(rows) == sorted(rows)


@given(labels_of_rows, percents, seeds)
def test_classes_have_within_half_a_row_of_one_common_share(
    labels: list[int], percent: float, seed: int
) -> None:
    totals = Counter(labels)
    counts = Counter(labels[row] for row in partition_indices(labels, percent, seed))
    lowest = max([(counts[c] - 0.5) / totals[c] for c in totals if counts[c] > 1], default=0.0)
    highest = min((counts[c] + 0.5) / totals[c] for c in totals)
    assert lowest <= highest + 1e-9


@given(st.integers(1, 8), st.integers(1, 30), percents, seeds)
def test_balanced_classes_stay_within_one_row_of_proportion(
    classes: int, each: int, percent: float, seed: int
) -> None:
    labels = np.tile(np.arange(classes), each)
    counts = np.bincount(labels[partition_indices(labels, percent, seed)])
    share = percent / 100 * each
    assert ((np.abs(counts - share) <= 1) | (counts == 1)).all()


@given(labels_of_rows, seeds)
def test_the_whole_partition_is_everything(labels: list[int], seed: int) -> None:
    assert list(partition_indices(labels, 100, seed)) == list(range(len(labels)))


def test_seeds_redraw_a_partition() -> None:
    labels = np.arange(300) % 3
    assert set(partition_indices(labels, 10, 0)) != set(partition_indices(labels, 10, 1))


@pytest.mark.parametrize("percent", [0, -1, 100.5, float("nan")])
def test_impossible_percentages_are_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="up to 100"):
        partition_indices([0, 1], percent, 0)
