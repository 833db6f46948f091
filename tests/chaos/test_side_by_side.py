"""Two searches at once, on one cache: both right."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.chaos import LONG
from tests.chaos.processes import LIMIT, running
from tests.runs.helpers import without_cost, without_seconds

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(not LONG, reason="make chaos; tests/runs/test_feature_stage.py has a part"),
]
# One trial at a time, so that each run is a function of its experiment.
SHORT = (
    *("--methods", "frozen,seed_llrd", "--partitions", "10"),
    *("--set", "final.seeds=1", "--set", "resources.cpus_per_trial=2"),
)


@pytest.mark.parametrize("again", range(5))
@pytest.mark.parametrize("where", ["one cluster", "a Ray for each"])
def test_two_searches_at_once_on_one_cache_are_both_right(
    tmp_path: Path, where: str, again: int, request: pytest.FixtureRequest
) -> None:
    joined = where == "one cluster"
    address = ["--address", request.getfixturevalue("cluster")] if joined else []
    environment = {**os.environ, "CLIP_SEARCH_CACHE": str(tmp_path / "cache")}
    first, second = tmp_path / "first", tmp_path / "second"
    with (
        running(first, *SHORT, *address, env=environment) as one,
        running(second, *SHORT, *address, env=environment) as other,
    ):
        for process in (one, other):
            _, said = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said
    run_dirs = [folder / "small" for folder in (first, second)]
    accuracy = pd.read_csv(run_dirs[0] / "accuracy_table.csv").test_accuracy
    assert accuracy.between(0.7, 1).tolist() == [True] * 2
    assert without_cost(run_dirs[0]) == without_cost(run_dirs[1])
    assert without_seconds(run_dirs[0]) == without_seconds(run_dirs[1])
    assert not list((tmp_path / "cache").rglob("*.corrupt"))
    assert not list((tmp_path / "cache").rglob(".*"))  # nothing half written
