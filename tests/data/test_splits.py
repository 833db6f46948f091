from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.splits import fold_ids, partition_rows, stratified_split
from partitions import Shots
from tests.data.walks import partition_indices, shot_indices

labels_of_rows = st.lists(st.integers(0, 6), min_size=1, max_size=120)
seeds = st.integers(0, 5)
percents = st.floats(0.5, 100)
fractions = st.floats(0.05, 0.9)
Rows = list[tuple[int, str]]  # label and group of each row
grouped_rows = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("abcdefghijkl")), min_size=1, max_size=80
)


def partition_of(rows: Rows, percent: float, seed: int) -> list[int]:
    """A partition of grouped rows."""
    labels, groups = zip(*rows, strict=True)
    return [int(row) for row in partition_indices(labels, percent, seed, groups)]


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


def test_partitions_without_groups_stay_as_they_were_drawn() -> None:
    """Published tables rest on these draws."""
    drawn = partition_indices(np.arange(60) * 7 % 11 % 4, 20, 3).tolist()
    assert drawn == [1, 3, 8, 11, 23, 27, 28, 29, 38, 42, 49, 53]
    digest, rng = hashlib.sha256(), np.random.default_rng(5)
    for rows, classes in ((10, 3), (989, 10), (2640, 81), (500, 7)):
        labels = rng.integers(0, classes, rows)
        for percent in (0.5, 1, 2.5, 10, 33.3, 50, 99, 100):
            for seed in range(4):
                digest.update(partition_indices(labels, percent, seed).tobytes())
    assert digest.hexdigest() == "deeff1c650d0727974a9a8f30a4a560bb5ae7a4023f989a2940052dd7fac0dd5"


@given(labels_of_rows, percents, seeds)
def test_groups_of_one_row_are_as_none(labels: list[int], percent: float, seed: int) -> None:
    alone = partition_indices(labels, percent, seed)
    names = [f"photo {len(labels) - row}" for row in range(len(labels))]
    assert list(partition_indices(labels, percent, seed, names)) == list(alone)


@given(grouped_rows, percents, percents, seeds)
def test_partitions_of_groups_nest(rows: Rows, one: float, other: float, seed: int) -> None:
    small, large = (partition_of(rows, p, seed) for p in sorted((one, other)))
    assert set(small) <= set(large)


@given(grouped_rows, percents, seeds)
def test_a_partition_has_whole_groups_and_every_class(
    rows: Rows, percent: float, seed: int
) -> None:
    labels, groups = zip(*rows, strict=True)
    drawn = partition_of(rows, percent, seed)
    rest = set(range(len(rows))) - set(drawn)
    assert drawn == sorted(set(drawn))
    assert not {groups[row] for row in drawn} & {groups[row] for row in rest}
    assert {labels[row] for row in drawn} == set(labels)


@given(grouped_rows, percents, seeds)
def test_a_partition_misses_its_size_by_half_a_group_or_is_the_smallest(
    rows: Rows, percent: float, seed: int
) -> None:
    size, least = (len(partition_of(rows, p, seed)) for p in (percent, 1e-6))
    largest = max(Counter(group for _, group in rows).values())
    target = round(percent / 100 * len(rows))
    assert abs(size - target) <= largest / 2 or (size == least > target)


@given(grouped_rows, seeds)
def test_the_smallest_partition_has_no_group_that_it_could_do_without(
    rows: Rows, seed: int
) -> None:
    classes: dict[str, set[int]] = {}
    for row in partition_of(rows, 1e-6, seed):
        classes.setdefault(rows[row][1], set()).add(rows[row][0])
    for group in classes:
        others = set().union(*(held for name, held in classes.items() if name != group))
        assert classes[group] - others


@given(grouped_rows, seeds)
def test_the_whole_partition_is_everything_in_groups_too(rows: Rows, seed: int) -> None:
    assert partition_of(rows, 100, seed) == list(range(len(rows)))


@given(grouped_rows, percents, seeds)
def test_what_groups_are_called_does_not_matter(rows: Rows, percent: float, seed: int) -> None:
    numbers = {group: number for number, group in enumerate(sorted({g for _, g in rows}))}
    labels, groups = zip(*rows, strict=True)
    numbered = partition_indices(labels, percent, seed, [numbers[g] for g in groups])
    assert partition_of(rows, percent, seed) == numbered.tolist()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(1, 8), percents, seeds)
def test_classes_have_within_half_a_group_of_one_common_share(
    sizes: list[int], each: int, percent: float, seed: int
) -> None:
    """Of groups of one size and one class, as of rows."""
    labels = np.repeat(np.arange(len(sizes)), np.array(sizes) * each)
    groups = np.arange(len(labels)) // each
    drawn = np.bincount(labels[partition_indices(labels, percent, seed, groups)])
    held = dict(enumerate(drawn / each))
    lowest = max([(held[c] - 0.5) / sizes[c] for c in held if held[c] > 1], default=0.0)
    highest = min((held[c] + 0.5) / sizes[c] for c in held)
    assert lowest <= highest + 1e-9


def test_a_tenth_of_a_hundred_bursts_is_ten_bursts() -> None:
    labels, bursts = np.repeat(np.arange(5), 200), np.arange(1000) // 10
    rows = partition_indices(labels, 10, 0, bursts)
    assert len(rows) == 100
    assert len(set(bursts[rows])) == 10
    assert Counter(labels[rows].tolist()) == dict.fromkeys(range(5), 20)


def test_seeds_redraw_the_groups_of_a_partition() -> None:
    labels, bursts = np.arange(1000) // 200, np.arange(1000) // 10
    draws = [tuple(partition_indices(labels, 10, seed, bursts)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_final_seeds_and_validation_have_draws_of_their_own() -> None:
    labels, groups = np.arange(60) % 3, np.arange(60) // 2

    def drawn(*, percent: float = 20, **draw: Any) -> set[int]:
        return set(partition_rows(labels, groups, percent, seed=5, **draw).tolist())

    assert drawn() == drawn(final_seed=0, purpose="partition")
    draws = [drawn(), drawn(final_seed=1), drawn(final_seed=2), drawn(purpose="validation")]
    assert len({frozenset(rows) for rows in draws}) == 4
    assert drawn(final_seed=1) < drawn(percent=50, final_seed=1)
    for rows in draws:
        assert {row // 2 for row in rows} == {row // 2 for row in rows if row ^ 1 in rows}


@given(labels_of_rows, st.integers(1, 20), seeds)
def test_shots_are_so_many_rows_of_every_class(labels: list[int], shots: int, seed: int) -> None:
    rows = shot_indices(labels, shots, seed)
    counts = Counter(labels[row] for row in rows)
    assert counts == {label: min(shots, n) for label, n in Counter(labels).items()}
    assert list(rows) == sorted(set(rows))


@given(grouped_rows, st.integers(1, 4), st.integers(1, 4), seeds)
def test_shots_nest_and_take_whole_groups_and_every_class(
    rows: Rows, one: int, other: int, seed: int
) -> None:
    labels, groups = zip(*rows, strict=True)
    small, large = ({*shot_indices(labels, n, seed, groups)} for n in sorted((one, other)))
    assert small <= large
    assert {labels[row] for row in small} == {*labels}
    drawn = {groups[row] for row in small}
    assert {row for row, group in enumerate(groups) if group in drawn} == small


def test_with_groups_a_shot_is_a_group() -> None:
    labels, groups = np.repeat([0, 1], 12), [str(row // 3) for row in range(24)]
    drawn = shot_indices(labels, 2, 0, groups)
    assert len({groups[row] for row in drawn}) == 4
    assert Counter(labels[drawn].tolist()) == {0: 6, 1: 6}


def test_a_fit_draws_its_shots_by_its_seed() -> None:
    labels = np.arange(300) % 3
    draws = [partition_rows(labels, None, Shots(4), 0, seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@given(labels_of_rows, st.integers(2, 6), seeds)
def test_folds_have_the_same_share_of_every_class(labels: list[int], folds: int, seed: int) -> None:
    dealt = fold_ids(labels, None, folds, seed)
    for rows in (dealt, *(dealt[np.array(labels) == label] for label in set(labels))):
        counts = np.bincount(rows, minlength=folds)
        assert len(counts) == folds
        assert counts.max() - counts.min() <= 1


@given(grouped_rows, st.integers(2, 6), seeds)
def test_a_group_lies_in_one_fold(rows: Rows, folds: int, seed: int) -> None:
    labels, groups = zip(*rows, strict=True)
    dealt = fold_ids(labels, groups, folds, seed)
    assert len(set(zip(groups, dealt.tolist(), strict=True))) == len(set(groups))
