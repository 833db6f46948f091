"""What is told of the images that fits are given."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from data import Draws, Split, SplitContent, each_draw
from errors import InputError
from partitions import Shots
from tune.features.draw_contents import draw_contents
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
    made = Features({}, {}, [])
    needed = DRAWS.needed(seeds)
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
    return draw_contents(DRAWS, seeds, made, CLASSES)


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


def test_a_class_that_a_fit_has_no_readable_image_of_is_an_error() -> None:
    dogs = [row for row in DRAWS.rows(10, 2).tolist() if row % 3 == 1]
    read({10: 2}, broken=dogs[:1])
    with pytest.raises(
        InputError, match=r"10% with seed 2 draws images of class 'dog'.*every class"
    ):
        read({10: 3}, broken=dogs)
