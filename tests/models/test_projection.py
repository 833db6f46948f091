"""The projection trained alone, beside a head that is kept."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from models.classifier import build_classifier
from models.device import Device
from models.encoder import Encoder, embedding
from models.exported import exported_weights
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.fits import assert_same, tuning
from tests.models.tiny_towers import at, pixels, timm


def test_a_kept_head_stays_to_the_bit_while_the_projection_moves(encoder: Encoder) -> None:
    settings = {"blocks": "final", "kinds": "proj", "head_lr": 0, "lr": 1e-2}
    fit = tuning(encoder, "final", pull_to_start=0.01, **settings)
    assert list(fit.model.trained) == ["final/part.proj"]
    fit.model.head.weight.data.copy_(torch.randn(fit.model.head.weight.shape))
    before = fit.model.head.head(0)
    assert fit.train_until(400).weight_distance > 0.01
    assert_same(vars(fit.model.head.head(0)), vars(before))


def test_a_projection_is_exported_as_any_other_weight(encoder: Encoder) -> None:
    fit = tuning(encoder, "final", blocks="final", kinds="proj", head_lr=1e-2)
    fit.train_until(400)
    exported = exported_weights(fit)
    selection = select(fit.recipe, encoder)
    classifier = build_classifier(encoder, selection, "pixels", exported, Device("cpu"))
    images = at(encoder, "pixels", pixels(6), np.zeros(6, dtype=np.int64))
    features = at(encoder, "final", pixels(6), np.zeros(6, dtype=np.int64))
    torch.testing.assert_close(
        classifier.logits(images, Device("cpu")), fit.logits(features), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("build", [lambda: timm("map", proj="none"), lambda: timm("avg", "none")])
def test_a_tower_without_a_projection_trains_one_that_starts_as_the_identity(build: Any) -> None:
    tower, images = build(), pixels(4).double()
    with torch.no_grad():
        before = embedding(copy.deepcopy(tower).double()(images))
    encoder = split_tower(tower).double()
    (trained,) = select(Recipe(blocks="final", kinds="proj"), encoder).parameters
    weight = encoder.group(trained.group).get_parameter(trained.name)
    assert torch.equal(weight, torch.eye(len(weight), dtype=torch.float64))
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), before, rtol=1e-12, atol=1e-12)
        weight.copy_(torch.randn_like(weight))
        torch.testing.assert_close(encoder(images), embedding(tower(images)))
        torch.testing.assert_close(encoder(images), embedding(before @ weight.T))


def test_a_fixed_head_on_a_frozen_encoder_trains_nothing() -> None:
    with pytest.raises(ValueError, match="head_lr: 0 with blocks: none trains nothing"):
        Recipe(head_lr=[0, 1e-3])
    assert Recipe(blocks="final", kinds="proj", head_lr=0).bank[0]["head_lr"] == 0
