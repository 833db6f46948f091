"""More than one node: code is shipped, trials run on both, those that need it on the larger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.runs.helpers import ROOT, events
from tests.runs.two_nodes import LARGE_GPU, SMALL_GPU

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two_nodes")
    script = [sys.executable, "-m", "tests.runs.two_nodes", str(out)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=400, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return out / "small"


def test_a_search_over_two_nodes_runs_the_shipped_copy(run_dir: Path) -> None:
    assert pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist() == [True] * 3
    (view,) = events(run_dir, "nodes")
    assert len(view["nodes"]) == 2
    for node in view["nodes"]:
        assert "working_dir_files" in node["code"]
        assert not Path(node["code"]).is_relative_to(ROOT)
    assert len({report["node"] for report in events(run_dir, "trial_report")}) == 2


def test_trials_go_where_the_memory_is(run_dir: Path) -> None:
    (view,) = events(run_dir, "nodes")
    nodes = {node["gpu_bytes"] >> 20: node["id"] for node in view["nodes"]}
    assert nodes.keys() == {SMALL_GPU, LARGE_GPU}
    placed = [(e["group"], e["node"]) for e in events(run_dir, "trial_report")]
    demanding = {node for group, node in placed if group == "10/seed_llrd"}
    assert demanding == {nodes[LARGE_GPU][:8]}
    assert nodes[SMALL_GPU][:8] in {node for _, node in placed}
