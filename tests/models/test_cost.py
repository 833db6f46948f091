"""Counted operations against those of a real step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.cost import group_flops, sample_flops
from models.encoder import PIXELS, layer_groups
from models.examples import Examples
from models.fit import Fit
from models.recipe import Recipe
from tests.models.towers import TOWERS

N, CLASSES = 8, 3


@pytest.mark.parametrize("tower", TOWERS)
def test_groups_count_what_the_tower_does(tower: str) -> None:
    encoder = layer_groups(TOWERS[tower]())
    counts = group_flops(encoder)
    assert len(counts) == len(encoder.groups)
    assert all(count > 0 for count in counts[:-2])
    pixels = torch.zeros(1, *encoder.shapes[PIXELS])
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(pixels)
    torch.backends.mha.set_fastpath_enabled(True)
    assert sum(counts) == counter.get_total_flops()


@pytest.mark.parametrize("kinds", ["ln", "mlp", "attn", "ln+attn+mlp"])
@pytest.mark.parametrize("blocks", ["2", "2-1", "2-0"])
def test_a_step_costs_about_what_is_said(blocks: str, kinds: str) -> None:
    encoder = layer_groups(TOWERS["native"]())
    recipe = Recipe(blocks=blocks, kinds=kinds, batch_size=N)
    boundary = recipe.boundary(encoder)
    features = np.zeros((N, *encoder.shapes[boundary]), np.float32)
    examples = Examples(features, np.arange(N) % CLASSES, np.arange(N))
    fit = Fit(encoder, recipe, boundary, examples, examples, classes=CLASSES, horizon=80, seed=0)
    with FlopCounterMode(display=False) as counter:
        fit.step()
    said = N * sample_flops(encoder, group_flops(encoder), recipe, boundary)
    assert counter.get_total_flops() <= 1.25 * said
    # The last block's MLP, for one token of many, is little of it; attention needs no gradient.
    if (blocks, kinds) != ("2", "mlp"):
        assert counter.get_total_flops() >= 0.75 * said
