from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from records import TrialReport
from tests.tune.trials.contexts import random_context
from tune.storage.storage import Storage
from tune.trials.trainable import REPORT, SuffixTrial

ASKED = {
    "cell": "100/llrd",
    "number": 0,
    "config": {"blocks": "11", "head_start": "zeros", "lr": 1e-3, "batch_size": 16},
    "probe": None,
}


def test_prospects_are_made_at_rungs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Between them nobody compares trials, and a prospect costs what an evaluation does."""
    node = SimpleNamespace(get_node_id=lambda: "0123456789")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: node)
    context: Any = random_context(monkeypatch, ["block 11"])[0]
    trial = SuffixTrial.__new__(SuffixTrial)  # Tune's own set-up is of no use here
    trial.setup(ASKED, (context,), Storage.at(tmp_path))

    def step() -> TrialReport:
        report: TrialReport = trial.step()[REPORT]
        return report

    rung, between, horizon = (step() for _ in range(3))
    assert rung.prospect != rung.score
    assert (between.prospect, horizon.prospect) == (between.score, horizon.score)
