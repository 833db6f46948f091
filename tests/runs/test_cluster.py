"""A cluster is left as it was found; on two nodes code is shipped, and trials run on both."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.runs.changing_cluster import STORES
from tests.runs.helpers import ROOT, events, shadows
from tests.runs.shared_gpus import CARDS, SHARE, TRIALS
from tests.runs.two_nodes import LARGE_GPU, SMALL_GPU

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two_nodes")
    shadows(out / "here")
    script = [sys.executable, "-m", "tests.runs.two_nodes", str(out)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return out / "small"


def test_a_search_over_two_nodes_runs_the_shipped_copy(run_dir: Path) -> None:
    assert pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist() == [True] * 3
    assert not (run_dir.parent / "here" / "imported").exists()
    (view,) = events(run_dir, "nodes")
    assert len(view["nodes"]) == 3  # the head has no room for trials
    for node in view["nodes"]:
        assert "working_dir_files" in node["code"]
        assert not Path(node["code"]).is_relative_to(ROOT)
    assert len({report["node"] for report in events(run_dir, "trial_report")}) == 2


def test_features_and_final_fits_are_made_on_both_nodes(run_dir: Path) -> None:
    nodes = told(run_dir)["nodes"]
    assert nodes.keys() == {"write", "fit_and_score", "judged"}  # the last: the audit's
    assert [len(set(nodes[job])) for job in ("write", "fit_and_score")] == [2, 2]


def test_what_two_nodes_came_to_is_on_shared_storage(run_dir: Path) -> None:
    copied = set(told(run_dir)["copied"])
    assert {"accuracy_table.md", "events.jsonl", "winners/10-llrd-seed0.safetensors"} <= copied
    assert not any(name.startswith("checkpoints/") for name in copied)  # of trials: all ended
    assert not (run_dir / "checkpoints").exists()  # they were written there, from both nodes


def told(run_dir: Path) -> Any:
    return json.loads((run_dir.parent / "told.json").read_text())


def test_trials_go_where_the_memory_is(run_dir: Path) -> None:
    (view,) = events(run_dir, "nodes")
    sized = [node for node in view["nodes"] if node["gpu_bytes"]]  # all but the head
    nodes = {node["gpu_bytes"] >> 20: node["id"] for node in sized}
    assert nodes.keys() == {SMALL_GPU, LARGE_GPU}
    placed = [(e["cell"], e["node"]) for e in events(run_dir, "trial_report")]
    demanding = {node for cell, node in placed if cell == "10/seed_llrd"}
    assert demanding == {nodes[LARGE_GPU][:8]}
    assert nodes[SMALL_GPU][:8] in {node for _, node in placed}


@pytest.fixture(scope="module")
def changed() -> dict[str, Any]:
    script = [sys.executable, "-m", "tests.runs.changing_cluster"]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_a_machine_that_has_come_is_used(changed: dict[str, Any]) -> None:
    assert (changed["at first"], changed["grown"]) == (1, 2)


def test_a_machine_that_dies_as_it_is_asked_is_not_there(changed: dict[str, Any]) -> None:
    assert (changed["asked"], changed["answered"], changed["asked later"]) == (3, 2, 2)


def test_the_smallest_object_store_counts(changed: dict[str, Any]) -> None:
    assert changed["store"] == min(STORES[:2])


AFTERWARDS = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os.write(2, b"heard"))
from tune.workers.cluster import connected
from search_spaces.schema import ResourcesConfig
with connected(ResourcesConfig(), None, 0):
    pass
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_trials_share_gpus_of_two_kinds() -> None:
    script = [sys.executable, "-m", "tests.runs.shared_gpus"]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["precision"] == "float16"  # of both, as the V100 has no bfloat16
    assert found["slots"] == TRIALS
    shares = Counter((card, number) for card, number in found["processes"])
    assert set(shares.values()) == {int(1 / SHARE)}  # each process sees one GPU
    assert Counter(card for card, _ in shares) == CARDS


def test_sigterm_is_heard_when_ray_has_gone() -> None:
    run = subprocess.run(
        [sys.executable, "-c", AFTERWARDS], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert (run.returncode, run.stderr) == (0, "heard")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("blind")
    script = [sys.executable, "-m", "tests.runs.blind_node", str(out)]
    finished = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_evaluate_refuses_a_machine_that_cannot_read_the_photos(evaluated: dict[str, Any]) -> None:
    code, _, told = evaluated["blind"]
    assert code == 2
    line = told.splitlines()[-1]
    assert line.startswith("error: data.source: hidden:400: 127.0.0.1 can read no image, such as ")
    assert line.endswith("no such file; every machine of the cluster needs them at the same path")


def test_evaluate_gives_no_work_to_such_a_machine_that_joins(evaluated: dict[str, Any]) -> None:
    code, said, _ = evaluated["late"]
    assert " has joined and gets no work: it can read no image, such as " in said
    assert said.endswith("1 of 1 figures are the same to the last prediction\n")
    assert code == 0
