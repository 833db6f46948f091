"""Which images fits are given, and which of all images are drawn at all."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.draws import Draws, Listed, each_draw
from data.splits import Units, Walk, partition_rows
from partitions import Partition, Shots

PARTITIONS = (1, 5, 10, 25, 33.3, 50, 100)
amounts = st.one_of(st.integers(1, 6).map(Shots), st.floats(0.5, 100), st.just(100))


def draws_of(labels: int, *, matched: bool = False, seed: int = 0, burst: int = 0) -> Draws:
    """Draws from images of seven classes, half as many of them for validation, maybe in bursts."""
    rng = np.random.default_rng(labels)
    splits = (rng.permutation(np.arange(n) % 7) for n in (labels, labels // 2))
    train, val = (Listed(y, np.arange(len(y)) // burst if burst else None) for y in splits)
    return Draws(train, val, seed, matched)


@settings(max_examples=20)
@given(st.integers(50, 400), st.integers(0, 5), st.integers(0, 20))
def test_partitions_are_nested_and_share_validation(labels: int, search: int, seed: int) -> None:
    draws = draws_of(labels, seed=search)
    drawn = [set(draws.rows(partition, seed).tolist()) for partition in PARTITIONS]
    for smaller, larger in itertools.pairwise(drawn):
        assert smaller <= larger
    assert drawn[-1] == set(range(labels))
    for partition in PARTITIONS:
        assert draws.val_rows(partition, seed).tolist() == list(range(labels // 2))


@settings(max_examples=20)
@given(st.integers(50, 400), st.integers(0, 20))
def test_matched_validation_is_the_partitions_own_share(labels: int, seed: int) -> None:
    draws = draws_of(labels, matched=True)
    count = labels // 2
    drawn = [draws.val_rows(partition, seed) for partition in PARTITIONS]
    for partition, rows in zip(PARTITIONS, drawn, strict=True):
        assert abs(len(rows) - count * partition / 100) <= 7  # of every class one at least
        assert set(draws.val.labels[rows].tolist()) == set(range(7))
    for smaller, larger in itertools.pairwise(drawn):
        assert set(smaller.tolist()) <= set(larger.tolist())
    assert len(drawn[-1]) == count


@settings(max_examples=20)
@given(st.integers(50, 400), st.booleans(), st.integers(7, 300), st.sampled_from([0, 3]))
def test_judges_are_some_of_the_validation_images_of_every_class(
    labels: int, matched: bool, most: int, burst: int
) -> None:
    draws = draws_of(labels, matched=matched, burst=burst)
    for partition in (10, 100):
        all_of_them, judges = draws.val_rows(partition, 0), draws.judging_rows(partition, 0, most)
        assert set(judges.tolist()) <= set(all_of_them.tolist())
        seen = draws.val.labels
        assert set(seen[judges].tolist()) == set(seen[all_of_them].tolist())
        if len(all_of_them) <= most:
            assert judges.tolist() == all_of_them.tolist()
        else:
            assert len(judges) <= max(most, 7 * (burst or 1)) + burst
            assert len(judges) >= most - burst


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(0, 20))
def test_partitions_and_matched_validation_keep_groups_whole(burst: int, seed: int) -> None:
    draws = draws_of(400, matched=True, burst=burst)
    for split, rows_of in ((draws.train, draws.rows), (draws.val, draws.val_rows)):
        assert split.groups is not None
        for partition in PARTITIONS:
            rows = rows_of(partition, seed)
            whole = np.isin(split.groups, split.groups[rows])
            assert rows.tolist() == np.flatnonzero(whole).tolist()
            assert set(split.labels[rows].tolist()) == set(range(7))


@settings(max_examples=40)
@given(st.integers(50, 400), amounts, st.integers(0, 3), st.booleans(), st.sampled_from([0, 3]))
def test_draws_are_those_of_splits(
    labels: int, partition: Partition, final_seed: int, matched: bool, burst: int
) -> None:
    draws = draws_of(labels, matched=matched, seed=5, burst=burst)
    drawn = draws.rows(partition, final_seed)
    assert drawn.tolist() == partition_rows(*draws.train, partition, 5, final_seed).tolist()
    share = 100 * len(drawn) / labels if isinstance(partition, Shots) else partition
    own = partition_rows(*draws.val, share if matched else 100, 5, final_seed, "validation")
    assert draws.val_rows(partition, final_seed).tolist() == own.tolist()
    groups = None if draws.val.groups is None else draws.val.groups[own]
    share = 100 * min(1.0, 20 / len(own))
    judges = partition_rows(draws.val.labels[own], groups, share, 5, final_seed, "judges")
    assert draws.judging_rows(partition, final_seed, 20).tolist() == own[judges].tolist()


def test_images_are_shuffled_once_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = []
    through = Walk.through

    def noted(units: Units, seed: int) -> Walk:
        shuffled.append(seed)
        return through(units, seed)

    monkeypatch.setattr(Walk, "through", noted)
    draws = draws_of(300, matched=True)
    seeds: dict[Partition, int] = dict.fromkeys((*PARTITIONS[:-1], Shots(2)), 3)
    draws.needed(seeds)
    for draw in each_draw(seeds):
        draws.rows(*draw)
        draws.val_rows(*draw)
    assert len(shuffled) == len(set(shuffled)) == 2 * 3  # train and val


@settings(max_examples=60)
@given(st.integers(50, 400), st.integers(0, 3), st.sampled_from([0, 3]), st.data())
def test_a_class_without_a_readable_image_gets_the_next_one(
    labels: int, final_seed: int, burst: int, data: st.DataObject
) -> None:
    listed = draws_of(labels, matched=True, burst=burst)
    rows = st.sets(st.integers(0, labels - 1), max_size=labels)
    likely = [r for s in range(3) for r in listed.rows(Shots(2), s).tolist()]
    lost = (
        data.draw(rows) if data.draw(st.booleans()) else data.draw(st.sets(st.sampled_from(likely)))
    )
    broken = np.array(sorted(lost), np.int64)
    draws = dataclasses.replace(listed, broken=broken)
    seen = draws.train.labels
    readable = np.setdiff1d(np.arange(labels), broken)
    for amounts in (PARTITIONS, tuple(map(Shots, range(1, 7)))):
        before: set[int] = set()
        for partition in amounts:
            own, drawn = listed.rows(partition, final_seed), draws.rows(partition, final_seed)
            sound = np.setdiff1d(drawn, broken)
            assert before <= set(sound.tolist())  # nested
            before = set(sound.tolist())
            assert set(seen[sound].tolist()) == set(seen[readable].tolist())
            added = np.setdiff1d(drawn, own)
            if not burst:  # one for each class that has lost all, and no other
                without = set(seen[readable]) - set(seen[np.setdiff1d(own, broken)])
                assert sorted(seen[added]) == sorted(without)
            assert set(own.tolist()) <= set(drawn.tolist())
            val = [each.val_rows(partition, final_seed).tolist() for each in (listed, draws)]
            assert val[0] == val[1]


def test_every_seed_draws_partition_and_matched_validation_anew() -> None:
    draws = draws_of(300, matched=True)
    for rows in (draws.rows, draws.val_rows):
        assert len({tuple(rows(10, seed).tolist()) for seed in range(5)}) == 5


@settings(max_examples=40)
@given(
    st.integers(50, 400),
    st.dictionaries(amounts, st.integers(1, 8), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([0, 3]),
)
def test_what_is_needed_is_what_some_fit_is_given(
    labels: int, seeds: dict[Partition, int], matched: bool, burst: int
) -> None:
    draws = draws_of(labels, matched=matched, burst=burst)
    needed = draws.needed(seeds)
    for split, rows_of in (("train", draws.rows), ("val", draws.val_rows)):
        given_to_fits = {row for draw in each_draw(seeds) for row in rows_of(*draw).tolist()}
        assert needed[split].tolist() == sorted(given_to_fits)


def test_more_seeds_and_larger_partitions_need_what_fewer_and_smaller_did() -> None:
    draws = draws_of(300, matched=True)
    few, more, larger = (draws.needed(seeds) for seeds in ({10: 1}, {10: 4}, {10: 4, 50: 2}))
    for split in ("train", "val"):
        assert set(few[split]) < set(more[split]) < set(larger[split])


def test_the_experiments_seed_has_a_part_in_every_draw() -> None:
    draws = draws_of(300, matched=True)
    others = dataclasses.replace(draws, seed=1)
    assert draws.rows(10, 0).tolist() != others.rows(10, 0).tolist()
    assert draws.val_rows(10, 0).tolist() != others.val_rows(10, 0).tolist()
