"""A new kind of source goes through a whole run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from ray import cloudpickle

from tests.data.sources.toy import register_toy
from tests.runs.helpers import run_quietly, small

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def test_a_source_from_one_file_is_searched_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = register_toy(tmp_path, monkeypatch)
    cloudpickle.register_pickle_by_value(module)  # workers cannot import the test's file
    experiment = small(
        "data.source=shapes:40", "data.partitions=[100]", "final.seeds=1", methods=["frozen"]
    )
    try:
        run_quietly(experiment, tmp_path)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    scored = pd.read_csv(tmp_path / "small" / "test_images.csv")
    assert len(scored) == 8
    assert set(scored["key"].str.partition("/")[0]) == {"square", "stripe"}
    assert pd.read_csv(tmp_path / "small" / "accuracy_table.csv")["test_accuracy"].notna().all()
