"""Features larger than memory are read from a disk of the machine's own, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.helpers import run_quietly, small, table_of, without_cost
from tune.features import plan

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_a_run_reads_features_from_the_machines_own_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its figures are those of a run that reads them from the cache."""
    monkeypatch.setattr(plan, "STORE_SHARE", 0.0)  # so that no array fits in memory
    cache, fast = tmp_path / "cache", tmp_path / "fast"
    settings = ("data.partitions=[10]", "search.trials=2", f"features.cache={cache}")
    own = small(*settings, f"features.local={fast}", methods=("frozen", "llrd"))
    run_quietly(own, tmp_path / "own")
    copies = {path.relative_to(fast) for path in fast.rglob("*") if path.is_file()}
    assert {path.parent.name for path in copies} > {"head"}
    assert copies <= {path.relative_to(cache) for path in cache.rglob("*")}
    run_quietly(small(*settings, methods=("frozen", "llrd")), tmp_path / "plain")
    assert table_of(tmp_path / "own" / "small").test_accuracy.notna().all()
    assert without_cost(tmp_path / "own" / "small") == without_cost(tmp_path / "plain" / "small")
