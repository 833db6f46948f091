"""A new kind of source goes through a whole run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.data.sources.toy import register_toy
from tests.runs.helpers import run_quietly, small

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def test_a_source_from_one_file_is_searched_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_toy(tmp_path, monkeypatch)  # from a file that workers cannot import
    data = ("data.source=shapes:40", "data.test_fraction=0.25", "data.partitions=[100]")
    experiment = small(*data, "final.seeds=1", methods=["frozen"])
    run_quietly(experiment, tmp_path)
    scored = pd.read_csv(tmp_path / "small" / "test_images.csv")
    assert len(scored) == 10
    assert set(scored["key"].str.partition("/")[0]) == {"square", "stripe"}
    assert pd.read_csv(tmp_path / "small" / "accuracy_table.csv")["test_accuracy"].notna().all()
