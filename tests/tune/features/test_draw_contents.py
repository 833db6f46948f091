"""What is told of the images that fits are given."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from data import Draws, Split, SplitContent, each_draw
from errors import InputError
from partitions import Shots
from tune.features.draw_contents import Needed, draw_contents, read_drawn
from tune.features.stage import Features, SplitDigests
from tune.workers.object_store import SharedSplit

N, CLASSES = 60, ("cat", "dog", "emu")
SEEDS = {Shots(1): 2, 10: 3, 50: 1}
TRAIN, VAL = (Split(tuple(f"{name}{i}" for i in range(N)), np.arange(N) % 3) for name in "tv")
DRAWS = Draws.of(TRAIN, VAL, seed=0, matched=True)


def read(
    seeds: dict[float | Shots, int] = SEEDS,
    broken: Iterable[int] = (),
    changed: Iterable[int] = (),
) -> dict[str, str]:
    """What is told if only the images of these seeds are read, a few not as before."""
    draws, made = read_drawn(DRAWS, seeds, lambda needed: made_of(needed, broken, changed))
    return draw_contents(draws, seeds, made, CLASSES)


def made_of(needed: Needed, broken: Iterable[int] = (), changed: Iterable[int] = ()) -> Features:
    """The features of the images that are needed, of which some of train cannot be read."""
    made = Features({}, {}, [])
    for name, listed in (("train", TRAIN), ("val", VAL)):
        rows = needed[name]
        contents = [
            f"{key}{' anew' * (name == 'train' and row in changed)}"
            for row, key in enumerate(listed.keys)
        ]
        split = Split(listed.keys, listed.labels, None, tuple(contents)).select(rows)
        lost = {i: "broken" for i, row in enumerate(rows) if name == "train" and row in broken}
        found = SplitDigests(split, lost, rows, N)
        kept = found.readable()
        made.contents[name] = SplitContent(kept, np.zeros((len(kept), 18), np.uint8))
        made.splits[name] = SharedSplit(kept.labels, {}, places=found.places())
    return made


def test_each_fit_is_told_with_its_partition_and_seed() -> None:
    told = read()
    assert [*told] == [
        "1shot/seed0", "1shot/seed1", "10/seed0", "10/seed1", "10/seed2", "50/seed0",
    ]  # fmt: skip
    assert len(set(told.values())) == len(told)


def test_a_fits_images_are_the_same_whatever_others_are_given() -> None:
    told = read()
    for draw in ({10: 1}, {10: 2}, {50: 1}, {10: 3, 100: 1}):
        again = read(draw)
        assert {name: again[name] for name in again.keys() & told.keys()} == {
            name: told[name] for name in again.keys() & told.keys()
        }


@pytest.mark.parametrize("how", ["broken", "changed"])
def test_an_image_that_is_not_as_before_is_told_by_the_fits_that_have_it(how: str) -> None:
    told = read()
    row = int(DRAWS.rows(10, 1)[0])
    others = read(**{how: [row]})  # type: ignore[arg-type]
    names = [*told]
    having = [
        name for name, draw in zip(names, each_draw(SEEDS), strict=True) if row in DRAWS.rows(*draw)
    ]
    assert [name for name in names if others[name] != told[name]] == having
    assert "10/seed1" in having


DOGS = np.flatnonzero(TRAIN.labels == 1).tolist()


@pytest.mark.parametrize("sound", range(3))
def test_other_images_are_read_where_a_class_has_lost_all_that_were_drawn(sound: int) -> None:
    """Of all dogs one can be read, wherever it comes in the order."""
    dog, asked = DOGS[7 * sound], []

    def make(needed: Needed) -> Features:
        asked.append(needed["train"].tolist())
        return made_of(needed, broken={*DOGS} - {dog})

    seeds: dict[float | Shots, int] = {Shots(1): 2}
    draws, made = read_drawn(DRAWS, seeds, make)
    for seed in range(2):
        listed, drawn = (each.rows(Shots(1), seed) for each in (DRAWS, draws))
        assert set(drawn.tolist()) == {*listed.tolist(), dog}
        assert len(made.splits["train"].readable(drawn)) == 3
    assert all(set(few) < set(more) for few, more in itertools.pairwise(asked))
    assert len(asked) <= 1 + len(DOGS)
    draw_contents(draws, seeds, made, CLASSES)


def test_no_more_is_read_where_each_class_has_an_image() -> None:
    first = DRAWS.rows(Shots(1), 0)[0]
    lost = next(row for row in DRAWS.rows(Shots(2), 0).tolist() if row != first)
    asked = []

    def make(needed: Needed) -> Features:
        asked.append(needed["train"].tolist())
        return made_of(needed, broken=[lost])

    draws, _ = read_drawn(DRAWS, {Shots(4): 1}, make)
    assert asked == [DRAWS.rows(Shots(4), 0).tolist()] == [draws.rows(Shots(4), 0).tolist()]


def test_a_class_without_a_readable_image_is_named() -> None:
    read({10: 3}, broken=DOGS[1:])
    with pytest.raises(InputError, match=r"no training image of class 'dog' can be read"):
        read({10: 3}, broken=DOGS)
