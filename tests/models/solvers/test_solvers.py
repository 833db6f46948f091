"""Fits that take no steps: solved at once, or left where they start."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.classifier import build_classifier
from models.device import Device
from models.encoder import Encoder
from models.exported import exported_weights
from models.feature_dataset import FeatureDataset
from models.fit import Fit
from models.head import LinearHead
from models.logistic_regression import solve_probes
from models.recipe import Recipe
from models.selection import select
from models.solvers import SOLVERS
from search_spaces import parse_space
from tests.models.fits import CLASSES, assert_same, clusters, tuning, weights
from tests.models.tiny_towers import at, pixels
from tests.models.toys import imported

HORIZON, DIM = 500, 12
TRAIN, VAL = clusters(30, 1, 1.5), clusters(60, 2, 1.5)
BANK = [10.0, 1e-3, 0.3]


def fit_of(encoder: Encoder, start: LinearHead | None = None, **settings: Any) -> Fit:
    recipe, options = Recipe(**settings), {"classes": CLASSES, "horizon": HORIZON, "seed": 0}
    return Fit(encoder, select(recipe, encoder), "head", TRAIN, VAL, start=start, **options)


def solved(encoder: Encoder, **settings: Any) -> Fit:
    return fit_of(encoder, **{"solver": "lbfgs", "weight_decay": BANK, **settings})


def start() -> LinearHead:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(CLASSES, DIM, generator=generator)
    return LinearHead(weight, torch.randn(CLASSES, generator=generator))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_bank_is_solved_at_once(encoder: Encoder, smoothing: float) -> None:
    fit = solved(encoder, label_smoothing=smoothing)
    evaluation = fit.train_until(HORIZON)
    assert evaluation.samples == fit.samples == HORIZON
    assert evaluation.steps > 0
    assert fit.best == evaluation
    x, y = torch.from_numpy(np.array(TRAIN.features)), torch.from_numpy(TRAIN.labels)
    heads, iterations = solve_probes(x, y, CLASSES, BANK, smoothing)
    assert evaluation.steps == iterations
    for i, head in enumerate(heads):
        assert_same(vars(fit.model.head.head(i)), vars(head))


def test_the_best_decay_wins_by_validation(encoder: Encoder) -> None:
    together = solved(encoder).train_until(HORIZON)
    alone = [solved(encoder, weight_decay=decay).train_until(HORIZON) for decay in BANK]
    assert together.score == pytest.approx(max(e.score for e in alone), abs=1e-6)
    best = alone[together.head]
    assert best.val_accuracy == together.val_accuracy
    assert best.train_loss == pytest.approx(together.train_loss, rel=1e-3)
    assert len({e.score for e in alone}) == len(BANK)


def test_the_order_of_the_bank_names_the_head(encoder: Encoder) -> None:
    fits = [solved(encoder, weight_decay=bank) for bank in (BANK, BANK[::-1])]
    first, second = (fit.train_until(HORIZON) for fit in fits)
    assert BANK[first.head] == BANK[::-1][second.head]


def test_an_exact_solution_needs_no_start(encoder: Encoder) -> None:
    fits = [solved(encoder), solved(encoder, start=start())]
    for fit in fits:
        fit.train_until(HORIZON)
    assert_same(weights(fits[0]), weights(fits[1]))


def test_every_anchor_has_a_head_for_every_decay(encoder: Encoder) -> None:
    text = start()
    fit = solved(encoder, start=text, anchor=[0, 0.5, 1])
    fit.train_until(HORIZON)
    x, y = torch.from_numpy(np.array(TRAIN.features)), torch.from_numpy(TRAIN.labels)
    halved = LinearHead(text.weight / 2, text.bias / 2)
    expected = [
        head
        for anchor in (None, halved, text)
        for head in solve_probes(x, y, CLASSES, BANK, anchor=anchor)[0]
    ]
    assert len(expected) == len(fit.recipe.bank) == 9
    for i, head in enumerate(expected):
        assert_same(vars(fit.model.head.head(i)), vars(head))


def test_the_mean_of_the_best_heads_takes_the_place_of_the_best(encoder: Encoder) -> None:
    each = solved(encoder, weight_decay=BANK)
    each.train_until(HORIZON)
    *_, scores = each._judged()
    order = sorted(range(len(scores)), key=lambda head: -scores[head])
    fit = solved(encoder, weight_decay=BANK, top_k=2)
    fit.train_until(HORIZON)
    assert fit.best is not None
    assert fit.best.head == order[0]
    mean = (each.model.head.weight[order[0]] + each.model.head.weight[order[1]]) / 2
    torch.testing.assert_close(fit.restore_best().weight, mean.detach())
    for head in order[1:]:
        assert_same(vars(fit.model.head.head(head)), vars(each.model.head.head(head)))
    more = solved(encoder, weight_decay=BANK, top_k=50)  # than there are
    more.train_until(HORIZON)
    torch.testing.assert_close(more.restore_best().weight, each.model.head.weight.mean(0).detach())


def test_heads_that_are_trained_in_steps_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="top_k above 1 needs a head that is solved for"):
        Recipe(top_k=2)


@pytest.mark.parametrize("boundary", ["pixels", "block 2", "final"])
def test_embeddings_are_computed_from_any_boundary(encoder: Encoder, boundary: str) -> None:
    images, labels = pixels(24), np.arange(24) % CLASSES
    recipe = Recipe(solver="lbfgs", weight_decay=0.1)
    heads = []
    for cached in (boundary, "head"):
        data = at(encoder, cached, images, labels)
        fit = Fit(
            encoder, select(recipe, encoder), cached, data, data, classes=CLASSES, horizon=9, seed=0
        )
        fit.train_until(9)
        heads.append(fit.restore_best())
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=0, atol=1e-4)


def test_without_a_solver_the_head_stays_bit_for_bit(encoder: Encoder) -> None:
    given = start()
    settings = {"solver": "none", "head_start": "zero_shot", "weight_decay": [0, 1]}
    fit = fit_of(encoder, given, **settings)
    evaluation = fit.train_until(HORIZON)
    assert (evaluation.samples, evaluation.steps, evaluation.head) == (HORIZON, 0, 0)
    assert_same(vars(fit.restore_best()), vars(given))
    x = torch.from_numpy(np.array(VAL.features))
    right = (x @ given.weight.T + given.bias).argmax(1) == torch.from_numpy(VAL.labels)
    assert evaluation.val_accuracy == pytest.approx(right.double().mean().item())
    assert evaluation.finite


@pytest.mark.parametrize("solver", ["lbfgs", "none"])
def test_the_state_of_a_solved_fit_loads(encoder: Encoder, solver: str) -> None:
    first = fit_of(encoder, start(), solver=solver, head_start="zero_shot", weight_decay=BANK)
    expected = first.train_until(HORIZON)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = fit_of(encoder, start(), solver=solver, head_start="zero_shot", weight_decay=BANK)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert (second.samples, second.best) == (HORIZON, expected)
    assert_same(vars(second.restore_best()), vars(first.restore_best()))
    assert_same(weights(second), weights(first))
    assert second.gradient_norms() == {}


def test_bad_features_give_no_solution(encoder: Encoder) -> None:
    broken = np.array(TRAIN.features)
    broken[::3] = np.nan
    train = FeatureDataset(broken, TRAIN.labels, TRAIN.rows)
    recipe = Recipe(solver="lbfgs", weight_decay=BANK)
    fit = Fit(
        encoder, select(recipe, encoder), "head", train, VAL, classes=CLASSES, horizon=9, seed=0
    )
    assert not fit.train_until(9).finite
    assert fit.best is None


MEANS = '''
"""A head of the classes' mean embeddings."""

import torch

from models.head import LinearHead
from models.solvers import DirectSolver


class Means(DirectSolver):
    name = "means"

    def solve(self, recipe, embeddings, labels, heads):
        classes = range(heads.bias.shape[1])
        weight = torch.stack([embeddings[labels == c].mean(0) for c in classes])
        heads.set_heads([LinearHead(weight, -weight.square().sum(1) / 2)])
        return 1
'''

SGD = '''
"""Stochastic gradient descent with momentum."""

import torch

from models.solvers import StepSolver


class Sgd(StepSolver):
    name = "sgd"

    def optimizers(self, selection, model):
        recipe = selection.recipe
        groups = [{"params": list(model.head.parameters()), "peak_lr": recipe.head_lr[0]}]
        for p in selection.parameters:
            peak = p.lr_scale * recipe.lr
            groups.append({"params": [model.trained[p.key]], "peak_lr": peak})
        return [torch.optim.SGD(groups, lr=0.0, momentum=0.9)]
'''


def test_a_direct_solver_is_added_in_one_file(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"blocks": "none", "solver": "means", "weight_decay": [0, 1]}
    with pytest.raises(
        ValueError, match="unknown solver 'means'; allowed: adamw, lbfgs, gda, none"
    ):
        Recipe.model_validate(settings)
    monkeypatch.setitem(SOLVERS, "means", imported(tmp_path, "means", MEANS).Means())
    recipe = Recipe(**parse_space({**settings, "weight_decay": {"bank": [0, 1]}}, {}).first())
    assert (recipe.takes_steps, len(recipe.bank), recipe.start) == (False, 1, "zeros")
    fit = fit_of(encoder, solver="means")
    evaluation = fit.train_until(HORIZON)
    assert (evaluation.samples, evaluation.steps) == (HORIZON, 1)
    assert evaluation.val_accuracy > 0.8
    classifier = build_classifier(
        encoder, select(fit.recipe, encoder), "head", exported_weights(fit), Device("cpu")
    )
    assert torch.equal(classifier.logits(VAL, Device("cpu")), fit.logits(VAL))
    with pytest.raises(ValueError, match="solver: means needs blocks: none"):
        Recipe(solver="means", blocks="1")


def test_a_step_solver_is_added_in_one_file(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOLVERS, "sgd", imported(tmp_path, "sgd", SGD).Sgd())
    numbers: Any = {"solver": "sgd", "lr": 0.01, "head_lr": 0.01}
    whole, first, second = (tuning(encoder, **numbers) for _ in range(3))
    expected = [whole.train_until(until) for until in (80, 400)]
    assert expected[1].train_loss < expected[0].train_loss
    assert expected[1].weight_distance > 0
    assert first.train_until(80) == expected[0]
    second.load_state_dict(first.state_dict())
    assert second.train_until(400) == expected[1]
    assert_same(weights(second), weights(whole))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_names_settings_that_recipes_have(name: str) -> None:
    solver = SOLVERS[name]
    assert {*solver.banked} <= solver.settings <= {*Recipe.model_fields}
