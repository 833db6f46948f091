"""The search for duplicates beside a run: the same as without, and nobody waits for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray

from data import Split, SplitContent, find_duplicates
from data.duplicates import HASH_BYTES
from tune.features.duplicates import DuplicateSearch, _compared

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CLASSES = ("x", "y")


def content(name: str, count: int) -> SplitContent:
    """Hashes of which many are near, and contents of which some are the same."""
    rng = np.random.default_rng(len(name))
    keys = tuple(f"{name}{row}" for row in range(count))
    digests = tuple(map(str, rng.integers(0, 2 * count, count)))
    split = Split(keys, rng.integers(0, 2, count), digests=digests)
    return SplitContent(split, rng.integers(1, 3, (count, HASH_BYTES)).astype(np.uint8))


SPLITS = {name: content(name, 200) for name in ("train", "val", "test_a", "test_night")}


def searched(splits: dict[str, SplitContent], told: list[str]) -> DuplicateSearch:
    """Train and validation first, as a run has them; then the test sets."""
    search = DuplicateSearch(CLASSES, told.append)
    seen = {name: splits[name] for name in ("train", "val")}
    search.compare(seen)
    search.compare({name: split for name, split in splits.items() if name not in seen})
    return search


def test_splits_that_come_later_give_the_same_list() -> None:
    told: list[str] = []
    expected = find_duplicates(SPLITS, CLASSES)
    assert {each.kind for each in expected} == {"exact", "near"}
    assert searched(SPLITS, told).result() == expected
    assert not told


def test_a_failure_is_one_line() -> None:
    told: list[str] = []
    broken = replace(SPLITS["val"], hashes=np.zeros((3, HASH_BYTES + 1), np.uint8))
    assert searched({**SPLITS, "val": broken}, told).result() is None
    (line,) = told
    assert line.startswith("duplicates: the search failed: all the input array dimensions")
    assert line.endswith("; --resume lists the duplicates")
    assert "\n" not in line


def test_without_time_nobody_waits() -> None:
    told: list[str] = []
    with searched(SPLITS, told) as search:
        assert search.result(patience=0) is None
    assert told == ["duplicates: no time is left; --resume lists the duplicates"]


def test_it_has_the_lowest_priority_and_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("os.nice", asked.append)
    _compared(["train"], [("train", "train")], CLASSES, SPLITS["train"])
    assert asked == [19]

    class Busy:
        def hold(self) -> None:
            """Take both slots."""

    busy: Any = ray.remote(num_cpus=2)(Busy)
    actor = busy.remote()
    ray.get(actor.hold.remote())
    assert searched(SPLITS, []).result() is not None
    ray.kill(actor)
