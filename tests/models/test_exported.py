"""What a fit leaves behind, and the classifier that is made of it again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InputError
from models.classifier import Classifier, build_classifier
from models.config import ModelConfig
from models.device import Device
from models.encoder import Encoder
from models.exported import Description, exported_weights, load_exported, save_exported
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.fits import CLASSES, assert_same, images
from tests.models.tiny_towers import TOWERS, at

CPU = Device("cpu")
KINDS = ("ln", "attn", "mlp", "ln+attn+mlp")


def tuned(encoder: Encoder, boundary: str, **settings: Any) -> Fit:
    recipe = Recipe.model_validate({"lr": 1e-2, "head_lr": 0.05, "batch_size": 8, **settings})
    train, val = (at(encoder, boundary, *images(n, n)) for n in (24, 15))
    fit = Fit(
        encoder, select(recipe, encoder), boundary, train, val, classes=CLASSES, horizon=64, seed=0
    )
    for until in (32, 64):
        fit.train_until(until)
    return fit


def rebuilt(
    encoder: Encoder, recipe: Recipe, boundary: str, weights: dict[str, torch.Tensor]
) -> Classifier:
    return build_classifier(encoder, select(recipe, encoder), boundary, weights, CPU)


@pytest.mark.parametrize("name", ["native", "timm, token", "timm, map"])
@pytest.mark.parametrize("kinds", KINDS)
def test_the_rebuilt_classifier_is_the_fit_at_every_boundary(name: str, kinds: str) -> None:
    encoder = split_tower(TOWERS[name]())
    recipe = Recipe(blocks="2-1", kinds=kinds)
    for boundary in encoder.boundaries[: encoder.index(select(recipe, encoder).boundary) + 1]:
        fit = tuned(encoder, boundary, blocks="2-1", kinds=kinds)
        weights = exported_weights(fit)
        others = at(encoder, boundary, *images(9, 7))
        classifier = rebuilt(encoder, fit.recipe, boundary, weights)
        assert torch.equal(classifier.logits(others, CPU), fit.logits(others)), boundary
        # From elsewhere it is fed other roundings of the same features.
        pixels = at(encoder, "pixels", *images(9, 7))
        whole = rebuilt(encoder, fit.recipe, "pixels", weights)
        torch.testing.assert_close(whole.logits(pixels, CPU), fit.logits(others), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", TOWERS)
def test_everything_that_can_be_trained_comes_back(name: str) -> None:
    encoder = split_tower(TOWERS[name]())
    before = {key: weight.clone() for key, weight in encoder.state_dict().items()}
    fit = tuned(encoder, "pixels", blocks="all", kinds="ln+attn+mlp+conv+embed+proj")
    weights = exported_weights(fit)
    others = at(encoder, "pixels", *images(9, 7))
    classifier = rebuilt(encoder, fit.recipe, "pixels", weights)
    assert torch.equal(classifier.logits(others, CPU), fit.logits(others))
    # On some CPUs the logits round otherwise where this differs.
    needs = [[p.requires_grad for p in model.parameters()] for model in (classifier, fit.model)]
    assert needs[0] == needs[1]
    assert_same(dict(encoder.state_dict()), before)
    names = [p.key for p in select(fit.recipe, encoder).parameters]
    assert len(set(names)) == len(names)
    assert set(weights) == {*names, "head/weight", "head/bias"}


def test_of_a_bank_the_best_head_is_kept(encoder: Encoder) -> None:
    fit = tuned(encoder, "head", head_lr=[1e-6, 0.05, 1e-3], weight_decay=[0, 0.1])
    weights = exported_weights(fit)
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        "head/weight": (CLASSES, encoder.dim),
        "head/bias": (CLASSES,),
    }
    assert fit.best is not None
    others = at(encoder, "head", *images(9, 7))
    logits = rebuilt(encoder, fit.recipe, "head", weights).logits(others, CPU)
    assert logits.shape == (9, CLASSES)
    mine = fit.logits(others, fit.best.head)
    torch.testing.assert_close(logits, mine, rtol=0, atol=1e-5)
    assert torch.equal(logits.argmax(-1), mine.argmax(-1))


@pytest.mark.parametrize("solver", ["lbfgs", "none"])
def test_solved_probes_come_back(encoder: Encoder, solver: str) -> None:
    fit = tuned(encoder, "head", solver=solver, head_start="zero_shot", weight_decay=0.1)
    others = at(encoder, "head", *images(9, 7))
    classifier = rebuilt(encoder, fit.recipe, "head", exported_weights(fit))
    assert torch.equal(classifier.logits(others, CPU), fit.logits(others))


def test_the_export_is_of_the_best_weights_and_a_copy(encoder: Encoder) -> None:
    fit = tuned(encoder, "block 2", blocks="2")
    best = {name: weight.clone() for name, weight in fit.best_weights.items()}
    fit.set_weights({name: weight + 1 for name, weight in fit.weights().items()})
    weights = exported_weights(fit)
    kept = {name: weight.clone() for name, weight in weights.items()}
    for name in fit.model.trained:
        assert torch.equal(weights[name], best[name])
    assert torch.equal(weights["head/weight"], best["head/weight"][0])
    assert all(w.is_contiguous() and not w.requires_grad for w in weights.values())
    fit.train_until(96)
    assert_same(weights, kept)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_file_is_told(
    place: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "winner.safetensors"
    description = Description(
        recipe=Recipe(blocks="none"),
        boundary="head",
        model=ModelConfig(),
        fingerprint="f",
        precision="float32",
        classes=("cat", "dog"),
    )
    weights = {"head/weight": torch.randn(2, 8), "head/bias": torch.randn(2)}
    save_exported(path, description, weights)
    assert load_exported(path)[0] == description
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"winner\.safetensors"):
        load_exported(path)


@pytest.mark.parametrize(
    "other",
    [
        {"blocks": "2"},
        {"blocks": "all"},
        {"blocks": "none"},
        {"kinds": "ln"},
        {"blocks": "all", "kinds": "ln+attn+mlp+embed"},
    ],
    ids=str,
)
def test_weights_of_another_recipe_are_refused(encoder: Encoder, other: dict[str, str]) -> None:
    fit = tuned(encoder, "pixels", blocks="2-1", kinds="ln+mlp")
    wrong = Recipe.model_validate({"blocks": "2-1", "kinds": "ln+mlp", **other})
    with pytest.raises(ValueError, match=r"not the recipe's: .+ is in one of them alone"):
        rebuilt(encoder, wrong, "pixels", exported_weights(fit))


def test_a_boundary_above_the_recipes_is_refused(encoder: Encoder) -> None:
    fit = tuned(encoder, "block 1", blocks="2-1")
    with pytest.raises(ValueError, match="trains below block 2"):
        rebuilt(encoder, fit.recipe, "block 2", exported_weights(fit))


def test_weights_of_another_width_are_refused(encoder: Encoder) -> None:
    fit = tuned(encoder, "block 2", blocks="2")
    weights = exported_weights(fit)
    wide = [name for name, weight in weights.items() if weight.ndim == 2]
    assert "head/weight" in wide
    for name, changed in ((n, c) for n in wide for c in (weights[n][:, :-1], torch.zeros(1))):
        with pytest.raises(ValueError, match=f"{name} has the shape"):
            rebuilt(encoder, fit.recipe, "block 2", {**weights, name: changed})
