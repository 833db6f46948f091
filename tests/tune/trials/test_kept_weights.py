"""What a final fit keeps: the figures are those of the kept weights, and validation checks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tune.trials.final_fits
import tune.trials.trial_context
import tune.workers.object_store
from errors import InputError
from models.device import Device
from models.exported import rebuilt
from records import Cell, read_final_fits, weights_path
from tests.report.run_writer import PROBE, RunWriter
from tests.report.run_writer import TUNED as TUNED_WINNER
from tests.runs.helpers import small
from tests.tune.trials.contexts import random_context
from tune.evaluate import _by_weights
from tune.storage.storage import Storage
from tune.trials.final_fits import FinalFitJob, FinalFitWorker, score_tests

BOUNDARY, CELL = "block 11", Cell(100, "llrd")
TUNED = {"blocks": "11", "lr": 1e-3, "head_lr": (1e-2,), "head_start": "zeros", "batch_size": 16}


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FinalFitWorker:
    """A worker on random features, without Ray."""
    context, split = random_context(monkeypatch, (BOUNDARY, "head"), [tune.trials.final_fits])
    return FinalFitWorker(context, {"test": split(200)}, Storage.at(tmp_path / "none"))


def fitted(worker: FinalFitWorker, **changes: Any) -> Any:
    return worker.fit_and_score(FinalFitJob(CELL, 0, 1, {**TUNED, **changes}, None, "x"))


@pytest.mark.parametrize("lora", [0, 2])
def test_the_figures_come_out_again_from_the_kept_weights(
    worker: FinalFitWorker, lora: int
) -> None:
    kinds = "attn" if lora else "ln+attn+mlp"
    result, description, weights = fitted(worker, lora_rank=lora, kinds=kinds)
    assert description.scales
    assert {weights[key].dtype for key, scale in description.scales.items() if scale} == {
        torch.float16
    }
    device, encoder = Device("cpu"), worker.context.encoder
    classifier = rebuilt(description, weights, encoder, description.boundary, device)
    found = score_tests(
        worker.tests,
        lambda test: classifier.logits(test.examples(BOUNDARY), device),
        "accuracy",
        result.temperature,
    )
    assert found == result.tests


def test_differences_that_classify_otherwise_are_not_kept(
    worker: FinalFitWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune.trials.final_fits, "alike", lambda *_: False)
    _, description, weights = fitted(worker)
    assert not description.scales
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_fit_that_is_not_kept_has_no_weights(worker: FinalFitWorker) -> None:
    job = FinalFitJob(CELL, 0, 1, TUNED, None, "x", kept=False)
    result, description, weights = worker.fit_and_score(job)
    assert weights is None
    assert not description.scales
    kept = fitted(worker)[0]
    assert kept.val_correct == result.val_correct
    assert kept.fit_key == result.fit_key


def test_evaluate_takes_what_was_kept(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run")
    for cell, config in (("10/frozen", PROBE), ("10/llrd", TUNED_WINNER)):
        writer.winner(cell, 0.9, config)
        writer.final_fits(cell, [0.8, 0.7])
    fits = [fit for by_seed in read_final_fits(writer.run_dir).values() for fit in by_seed.values()]
    paths = {weights_path(writer.run_dir, fit.cell, fit.seed) for fit in fits}
    kept = {path for path in paths if path.stem != "10-llrd-seed1"}
    (writer.run_dir / "winners").mkdir()
    for path in kept:
        path.touch()
    one, every = (small(f"final.keep={keep}") for keep in ("one", "all"))
    assert set(_by_weights(writer.run_dir, fits, one)) == kept
    with pytest.raises(InputError, match=r"10-llrd-seed1\.safetensors is missing"):
        _by_weights(writer.run_dir, fits, every)
    weights_path(writer.run_dir, Cell(10, "frozen"), 1).unlink()
    with pytest.raises(InputError, match=r"10-frozen-seed1\.safetensors is missing"):
        _by_weights(writer.run_dir, fits, one)
