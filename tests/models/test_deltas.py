"""Weights as differences in float16: half the bytes, the same model, and old files as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import models.deltas
from models.config import ModelConfig
from models.deltas import CLOSE, alike, as_deltas, from_deltas
from models.device import Device
from models.encoder import Encoder
from models.exported import Description, exported_weights, load_exported, rebuilt, save_exported
from models.selection import select
from tests.models.test_exported import CPU, at, images, tuned


def test_differences_take_half_and_classify_alike(encoder: Encoder, tmp_path: Path) -> None:
    fit = tuned(encoder, "block 2", blocks="2", kinds="ln+attn+mlp")
    weights, selection = exported_weights(fit), select(fit.recipe, encoder)
    stored, scales = as_deltas(weights, selection, encoder)
    assert set(scales) == {p.key for p in selection.parameters}
    for key, weight in stored.items():
        assert weight.dtype == (torch.float16 if key in scales else torch.float32)
    back = from_deltas(stored, scales, selection, encoder)
    for key, weight in weights.items():
        scale = scales.get(key, 0.0)
        torch.testing.assert_close(back[key], weight, rtol=0, atol=scale * 2**-11)
    description = Description(
        recipe=fit.recipe,
        boundary="block 2",
        model=ModelConfig(),
        fingerprint="f",
        precision="float32",
        classes=("cat", "dog", "emu"),
        scales=scales,
    )
    save_exported(tmp_path / "w.safetensors", description, stored)
    read, held = load_exported(tmp_path / "w.safetensors")
    classifier = rebuilt(read, held, encoder, "block 2", Device("cpu"))
    others = at(encoder, "block 2", *images(9, 7))
    assert alike(classifier.logits(others, CPU), fit.logits(others))


def test_what_has_not_changed_is_not_stored(encoder: Encoder) -> None:
    fit = tuned(encoder, "block 2", blocks="2", kinds="ln+mlp")
    selection = select(fit.recipe, encoder)
    weights = exported_weights(fit)
    same = selection.parameters[0]
    began = encoder.group(same.group).get_parameter(same.name).detach().clone()
    weights[same.key] = began
    stored, scales = as_deltas(weights, selection, encoder)
    assert same.key not in stored
    assert scales[same.key] == 0
    assert torch.equal(from_deltas(stored, scales, selection, encoder)[same.key], began)


@pytest.mark.parametrize("size", [1e-12, 1e-7, 1.0, 1e6])
def test_differences_of_any_size_keep_three_digits(size: float, encoder: Encoder) -> None:
    selection = select(tuned(encoder, "block 2", blocks="2", kinds="ln").recipe, encoder)
    parameter = selection.parameters[0]
    start = encoder.group(parameter.group).get_parameter(parameter.name).detach()
    scaled = size * torch.rand_like(start)
    whole = {p.key: encoder.group(p.group).get_parameter(p.name).detach().clone()
             for p in selection.parameters}  # fmt: skip
    whole[parameter.key] = start + scaled
    stored, scales = as_deltas(whole, selection, encoder)
    back = from_deltas(stored, scales, selection, encoder)[parameter.key]
    moved = whole[parameter.key] - start
    assert float((back - whole[parameter.key]).abs().max()) <= 1e-3 * float(moved.abs().max())


def test_a_missing_difference_is_refused(encoder: Encoder) -> None:
    fit = tuned(encoder, "block 2", blocks="2")
    selection = select(fit.recipe, encoder)
    stored, scales = as_deltas(exported_weights(fit), selection, encoder)
    key = next(key for key in scales if key in stored)
    del stored[key]
    assert key not in from_deltas(stored, scales, selection, encoder)


def test_models_of_many_classes_are_compared_some_rows_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models.deltas, "BLOCK", 6)
    compared = []
    one_block = models.deltas._alike

    def noted(logits: torch.Tensor, others: torch.Tensor) -> bool:
        compared.append(len(logits))
        return one_block(logits, others)

    monkeypatch.setattr(models.deltas, "_alike", noted)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    others = logits.clone()
    assert alike(logits, others)
    assert compared == [2, 2, 1]
    others[4] = -others[4]
    assert not alike(logits, others)


def test_models_are_alike_by_their_classes_and_probabilities() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert alike(logits, logits + 5)
    assert alike(logits, logits * (1 + CLOSE))
    assert not alike(logits, logits * 1.1)
    tie = torch.tensor([[1e-6, 0.0]])
    assert not alike(tie, -tie)
