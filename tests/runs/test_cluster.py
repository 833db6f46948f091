"""More than one node: code is shipped, trials run on both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.runs.helpers import ROOT, events

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_search_over_two_nodes_runs_the_shipped_copy(tmp_path: Path) -> None:
    script = [sys.executable, "-m", "tests.runs.two_nodes", str(tmp_path)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    run_dir = tmp_path / "small"
    assert pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist() == [True] * 3
    (view,) = events(run_dir, "nodes")
    assert len(view["nodes"]) == 2
    for node in view["nodes"]:
        assert "working_dir_files" in node["code"]
        assert not Path(node["code"]).is_relative_to(ROOT)
    assert len({report["node"] for report in events(run_dir, "trial_report")}) == 2
