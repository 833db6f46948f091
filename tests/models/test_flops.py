"""What training is said to cost, against a real step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from models.config import PrecisionName
from models.device import Device
from models.encoder import PIXELS, Encoder
from models.feature_dataset import FeatureDataset
from models.fit import Fit
from models.flops import group_flops, sample_flops, training_memory
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.tiny_towers import TOWERS

N, CLASSES = 8, 3


def fit_of(encoder: Encoder, recipe: Recipe, boundary: str, images: int = N, **options: Any) -> Fit:
    """A fit on blank features."""
    features = np.zeros((images, *encoder.shapes[boundary]), np.float32)
    examples = FeatureDataset(features, np.arange(images) % CLASSES, np.arange(images))
    data = (examples, examples)
    return Fit(
        *(encoder, select(recipe, encoder), boundary, *data),
        classes=CLASSES,
        horizon=80,
        seed=0,
        **options,
    )


@pytest.mark.parametrize("tower", TOWERS)
def test_groups_count_what_the_tower_does(tower: str) -> None:
    encoder = split_tower(TOWERS[tower]())
    counts = group_flops(encoder)
    assert len(counts) == len(encoder.groups)
    assert all(count > 0 for count in counts[:-2])
    pixels = torch.zeros(1, *encoder.shapes[PIXELS])
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(pixels)
    torch.backends.mha.set_fastpath_enabled(True)
    assert sum(counts) == counter.get_total_flops()


# torch counts the gradient of a depthwise kernel as that of a full one: none of these has one.
TRAINED = [
    *(("native", kinds) for kinds in ("ln", "mlp", "attn", "ln+attn+mlp")),
    *(("ResNet", kinds) for kinds in ("ln", "conv", "ln+conv")),
    ("Swin", "ln+attn+mlp+conv"),
]


@pytest.mark.parametrize(("tower", "kinds"), TRAINED)
@pytest.mark.parametrize("blocks", ["2", "2-1", "2-0"])
def test_a_step_costs_about_what_is_said(blocks: str, tower: str, kinds: str) -> None:
    encoder = split_tower(TOWERS[tower]())
    recipe = Recipe(blocks=blocks, kinds=kinds, batch_size=N)
    selection = select(recipe, encoder)
    boundary = selection.boundary
    fit = fit_of(encoder, recipe, boundary)
    with FlopCounterMode(display=False) as counter:
        fit.step()
    said = N * sample_flops(encoder, group_flops(encoder), selection, boundary)
    assert counter.get_total_flops() <= 1.25 * said
    # The last block's MLP, for one token of many, is little of it; attention needs no gradient.
    if (tower, blocks, kinds) != ("native", "2", "mlp"):
        assert counter.get_total_flops() >= 0.75 * said


@pytest.mark.parametrize(
    ("tower", "kinds"), [*TRAINED, ("ConvNeXt", "mlp+conv"), ("FastViT", "ln+attn+mlp+conv")]
)
@pytest.mark.parametrize("blocks", ["2", "2-1", "all"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_takes_the_memory_that_is_said(
    blocks: str, tower: str, kinds: str, precision: PrecisionName
) -> None:
    encoder = split_tower(TOWERS[tower]())
    recipe = Recipe(blocks=blocks, kinds=kinds, batch_size=N)
    selection = select(recipe, encoder)
    boundary = selection.boundary
    state, example = training_memory(encoder, selection, boundary, precision)

    def saved_by_a_step(batch_size: int) -> int:
        sized = recipe.model_copy(update={"batch_size": batch_size})
        fit = fit_of(encoder, sized, boundary, 2 * N, device=Device("cpu", precision))
        own = {p.untyped_storage().data_ptr() for p in fit.model.parameters()}
        saved = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(note, lambda x: x):
            fit.step()
        return sum(size for place, size in saved.items() if place not in own)

    measured = (saved_by_a_step(2 * N) - saved_by_a_step(N)) / N
    heads = 4 * 3 * (encoder.dim + CLASSES)  # embeddings and logits, a few times over
    assert example <= measured <= example + heads
    assert state > 0


def test_state_is_what_a_fit_holds_of_it() -> None:
    encoder = split_tower(TOWERS["native"]())
    recipe = Recipe(blocks="2-1", kinds="attn", batch_size=N)
    boundary = encoder.boundaries[1]  # a lower one: its weights are held, not trained
    fit = fit_of(encoder, recipe, boundary, average=True)
    fit.train_until(2 * N)
    held = fit.state_dict()
    trained = [name for name in fit.best_weights if not name.startswith("head/")]
    moments = held["optimizers"][1]["state"]
    beside = [
        *(held["average"][name] for name in trained),
        *(fit.best_weights[name] for name in trained),
        *(kept[name] for kept in moments.values() for name in ("exp_avg", "exp_avg_sq")),
    ]
    weights = [p for group in fit.model.groups for p in group.parameters()]
    gradients = [p for group in fit.model.groups for p in group.parameters() if p.requires_grad]
    numbers = sum(tensor.numel() for tensor in (*weights, *gradients, *beside))
    assert training_memory(encoder, select(recipe, encoder), boundary, "float32")[0] == 4 * numbers
