"""A run reads and encodes the images that its fits are given, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data import Dataset, Draws
from data.features.shards import read_digests
from search_spaces import Experiment
from tests.runs.helpers import run_quietly, small, table_of, without_seconds
from tune.features.writer import HASHES
from tune.setup import prepare

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
SEEDS = 2


def encoded(cache: Path) -> dict[str, set[str]]:
    """The digests of the images whose features lie in a cache, by boundary."""
    found: dict[str, set[str]] = {}
    for shard in cache.rglob("*.safetensors"):
        if "zero_shot" not in shard.parts and HASHES not in shard.parts:
            found.setdefault(shard.parent.name, set()).update(read_digests(shard))
    return found


def digests(dataset: Dataset, draws: Draws, *partitions: float) -> set[str]:
    """Of what the fits at some partitions are given, and of all validation and test images."""
    rows = {row for p in partitions for s in range(SEEDS) for row in draws.rows(p, s).tolist()}
    keys = [dataset.train.keys[row] for row in rows]
    keys += [*dataset.val.keys, *dataset.tests["test"].split.keys]
    return {dataset.source.digest(key) for key in keys}


def test_a_run_encodes_what_it_uses_and_has_the_table_of_one_that_encodes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"

    def at(*partitions: float) -> Experiment:
        return small(
            f"features.cache={cache}",
            f"data.partitions={list(partitions)}",
            f"final.seeds={SEEDS}",
            "search.trials=1",
            methods=["frozen", "seed_llrd"],
        )

    prepared = prepare(at(10))
    dataset, draws = prepared.dataset, prepared.draws
    run_quietly(at(10), tmp_path / "few")
    few = encoded(cache)
    assert len(few) >= 2
    assert all(found == digests(dataset, draws, 10) for found in few.values())
    first = without_seconds(tmp_path / "few" / "small")

    shards = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    run_quietly(at(10, 50), tmp_path / "few", resume=True)
    assert all(found == digests(dataset, draws, 10, 50) for found in encoded(cache).values())
    kept = {path: path.stat().st_mtime_ns for path in shards}
    assert kept == shards
    new = [read_digests(path) for path in cache.rglob("*.safetensors") if path not in shards]
    assert not few["head"] & {digest for shard in new for digest in shard}
    extended = without_seconds(tmp_path / "few" / "small")
    assert {name: extended[name] for name in first} == first

    def every(draws: Draws, seeds: Mapping[Any, int]) -> dict[str, Any]:
        return {
            "train": np.arange(len(draws.train.labels)),
            "val": np.arange(len(draws.val.labels)),
        }

    monkeypatch.setattr(Draws, "needed", every)
    run_quietly(at(10, 50), tmp_path / "all")
    assert len(encoded(cache)["head"]) > len(digests(dataset, draws, 10, 50))
    assert without_seconds(tmp_path / "all" / "small") == extended
    tables = [table_of(tmp_path / name / "small") for name in ("few", "all")]
    cost = ["search_seconds", "final_seconds", "saved_seconds"]
    pd.testing.assert_frame_equal(*(table.drop(columns=cost) for table in tables))
