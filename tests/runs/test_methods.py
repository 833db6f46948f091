"""Methods that the built-in default does not have go through a whole run, weights and all."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from models import load_adapted
from search_spaces import load_experiment
from tests.runs.helpers import run_quietly
from tune.evaluate import evaluate

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

SPACE = """
name: new
metric: log_loss
data: {source: digits, partitions: [10], templates: ["a photo of the digit {}"]}
search: {trials: 1, samples: 200}
final: {seeds: 2, keep: all}
methods:
  frozen:
    space:
      {blocks: none, solver: lbfgs, anchor: {bank: [0, 1]}, weight_decay: {bank: [0.001, 0.1]},
       top_k: 2, class_weights: balanced}
  gda: {space: {blocks: none, head_start: zero_shot, solver: gda, gda: {bank: [0, 1]}}}
  projection:
    space:
      {blocks: final, kinds: proj, head_start: zero_shot, head_lr: 0, lr: 0.001, pull_to_start: 10}
  lora: {space: {blocks: "11-9", kinds: attn+mlp, lora_rank: 4, lr: 0.005, batch_size: 32}}
"""


def test_they_are_searched_scored_and_kept(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    run_quietly(load_experiment(tmp_path / "space.yaml"), tmp_path)
    table = pd.read_csv(tmp_path / "new" / "accuracy_table.csv").set_index("method")
    assert table.test_accuracy.between(0.1, 1).all()
    assert table.best.sum() == 1
    said = io.StringIO()
    assert evaluate(tmp_path / "new", None, Console(file=said, width=200))
    assert "8 of 8 figures are the same" in said.getvalue()
    for method in table.index:
        file = tmp_path / "new" / "winners" / f"10-{method}-seed1.safetensors"
        assert len(load_adapted(file).classes) == 10
