"""The training loop: what it learns, and what it leaves alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.device import Device
from models.encoder import Encoder, LayerGroup
from models.feature_dataset import FeatureDataset
from models.fit import Fit
from models.head import LinearHead
from models.recipe import Recipe
from models.results import Evaluation, score
from models.schedule import lr_share
from models.selection import select
from models.towers import split_tower
from tests.models.fits import CLASSES, assert_same, clusters, images, probe, tuning, weights
from tests.models.tiny_towers import at, examples, native, pixels


@pytest.mark.parametrize("build", [probe, tuning])
def test_a_fit_learns(encoder: Encoder, build: Callable[[Encoder], Fit]) -> None:
    fit = build(encoder)
    first, last = fit.train_until(40), fit.train_until(400)
    assert last.train_loss < first.train_loss < math.log(CLASSES)
    assert last.val_accuracy > 0.9
    assert last.samples >= 400
    assert fit.best is not None
    assert fit.best.score >= last.score


def test_a_bank_finds_its_good_head(encoder: Encoder) -> None:
    fit = probe(encoder, head_lr=[1e-7, 0.05], weight_decay=[0, 0.1])
    evaluation = fit.train_until(600)
    assert evaluation.val_accuracy == 1
    assert fit.recipe.bank[evaluation.head]["head_lr"] == 0.05
    assert fit.logits(clusters(60, 2)).shape == (60, CLASSES)
    head = fit.restore_best()
    labels = torch.from_numpy(clusters(60, 2).labels)
    x = torch.from_numpy(np.array(clusters(60, 2).features))
    assert torch.equal((x @ head.weight.T + head.bias).argmax(1), labels)


def test_every_head_of_a_bank_is_its_own_fit(encoder: Encoder) -> None:
    together = probe(encoder, head_lr=[1e-3, 0.05], weight_decay=[0, 0.5], warmup=0.2)
    together.train_until(300)
    for i, head in enumerate(together.recipe.bank):
        alone = probe(encoder, **head, warmup=0.2)
        alone.train_until(300)
        torch.testing.assert_close(
            together.model.head.weight[i], alone.model.head.weight[0], rtol=1e-5, atol=1e-6
        )


def test_the_reported_loss_is_that_of_the_reported_head(encoder: Encoder) -> None:
    bank = probe(encoder, head_lr=[1e-7, 0.05]).train_until(200)
    alone = probe(encoder, head_lr=0.05).train_until(200)
    assert bank.head == 1
    assert bank.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
    assert bank.val_loss == pytest.approx(alone.val_loss, rel=1e-4)


def test_a_head_that_overflows_does_not_hide_the_others(encoder: Encoder) -> None:
    fit = probe(encoder, head_lr=[0.05, 100], weight_decay=[0, 100])
    evaluation = fit.train_until(550)
    assert not all(fit.model.head.head(i).weight.isfinite().all() for i in range(4))
    assert evaluation.finite
    assert fit.best == evaluation
    assert evaluation.val_accuracy == 1


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    factors = [lr_share(10 * step, 10, 400, warmup=0.25) for step in range(45)]
    warm, rest = factors[:10], factors[10:40]
    assert warm == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rest == pytest.approx([(1 + math.cos(math.pi * i / 30)) / 2 for i in range(30)])
    assert rest == sorted(rest, reverse=True)
    assert factors[40:] == [0.0] * 5


@given(st.floats(0, 0.99), st.integers(1, 500), st.integers(1, 3000))
def test_the_rate_is_a_share(warmup: float, batch: int, horizon: int) -> None:
    for samples in range(0, 2 * horizon, batch):
        factor = lr_share(samples, batch, horizon, warmup)
        assert 0 <= factor <= 1
        assert factor == 0 or samples < horizon


def test_past_the_horizon_nothing_moves(encoder: Encoder) -> None:
    fit = tuning(encoder)
    fit.train_until(400)
    before = weights(fit)
    fit.train_until(480)
    assert_same(before, weights(fit))


@given(st.integers(1, 5000), st.data())
def test_the_score_never_overrules_an_accuracy(n: int, data: st.DataObject) -> None:
    losses = st.floats(0) | st.just(math.nan)
    right, wrong = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    fewer = right - wrong
    loss, other = data.draw(st.floats(0, 1e6)), data.draw(losses)
    better, worse = score(right / n, loss, n), score(fewer / n, other, n)
    assert better > worse
    # Half an image, and no more.
    assert right / n <= better <= (right + 0.5) / n + 1e-12


@given(st.integers(1, 1000), st.floats(0, 10), st.floats(0, 10))
def test_the_score_orders_ties_by_loss(n: int, one: float, other: float) -> None:
    if one + 1e-6 < other:
        assert score(0.5, one, n) > score(0.5, other, n)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_loss_no_score(loss: float) -> None:
    assert score(1.0, loss, 10) == -math.inf
    assert not Evaluation(1, 1, loss, 1.0, 0.1, 0.0, 0, 0.0).finite
    assert not Evaluation(1, 1, 0.1, 1.0, loss, 0.0, 0, 0.0).finite


def test_a_batch_is_never_larger_than_the_split(encoder: Encoder) -> None:
    fit = probe(encoder, batch_size=4096)
    assert fit.batch_size == 30
    evaluation = fit.train_until(60)
    assert (evaluation.samples, evaluation.steps) == (60, 2)


def test_the_seed_changes_the_order(encoder: Encoder) -> None:
    fits = [probe(encoder, seed=seed) for seed in (0, 0, 1)]
    losses = [[fit.step().item() for _ in range(6)] for fit in fits]
    assert losses[0] == losses[1] != losses[2]


def test_the_head_starts_where_it_is_given(encoder: Encoder) -> None:
    start = LinearHead(torch.randn(CLASSES, 12), torch.randn(CLASSES))
    val = clusters(9, 2)
    fit = Fit(
        encoder,
        select(Recipe(), encoder),
        "head",
        val,
        val,
        classes=CLASSES,
        horizon=90,
        seed=0,
        start=start,
    )
    expected = torch.from_numpy(np.array(val.features)) @ start.weight.T + start.bias
    torch.testing.assert_close(fit.logits(val), expected)


@pytest.mark.parametrize("batch_size", [1, 4, 15, 256])
def test_logits_come_in_order_whatever_the_batch(
    encoder: Encoder, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.classifier.EVALUATED", batch_size)
    fit = tuning(encoder)
    fit.train_until(40)
    data = at(encoder, "block 1", *images(15, 2))
    reordered = FeatureDataset(data.features, data.labels, data.rows[::-1].copy())

    def embedded(of: FeatureDataset) -> Tensor:
        return fit.model.embeddings(of, Device("cpu"))

    bank = fit.model.head(embedded(data))
    for head, logits in enumerate(bank):
        torch.testing.assert_close(logits, fit.logits(data, head))
    torch.testing.assert_close(embedded(reordered), embedded(data).flip(0))
    torch.testing.assert_close(fit.logits(reordered), fit.logits(data).flip(0))


def test_a_fit_leaves_encoder_and_features_alone(encoder: Encoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    train = at(encoder, "pixels", *images(24, 1))
    cached = np.array(train.features)
    rates = {"lr": 3e-3, "head_lr": 0.01, "weight_decay": 0.1, "batch_size": 8}
    recipe = Recipe(blocks="all", kinds="ln+attn+mlp+embed+proj", **rates)
    numbers: Any = {"classes": CLASSES, "horizon": 400, "seed": 0}
    fit = Fit(encoder, select(recipe, encoder), "pixels", train, train, **numbers)
    distances = [fit.train_until(until).weight_distance for until in (8, 80)]
    assert_same(dict(encoder.state_dict()), before)
    np.testing.assert_array_equal(train.features, cached)
    assert 0 < distances[0] < distances[1]
    assert probe(encoder).train_until(50).weight_distance == 0


class Noisy(nn.Module):
    """A layer with everything that behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(12, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.norm(self.mlp(x)))
        return out


def run(part: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = part(x)
    return out


def noisy_chain() -> Encoder:
    torch.manual_seed(0)
    kinds = {"mlp.weight": "mlp", "mlp.bias": "mlp", "norm.weight": "ln", "norm.bias": "ln"}
    return Encoder(
        [
            LayerGroup("stem", nn.Flatten(), run, {}),
            *(LayerGroup(f"block {i}", Noisy(), run, kinds) for i in range(3)),
            LayerGroup("final", nn.Identity(), run, {}),
        ],
        (3, 2, 2),
    )


@pytest.mark.parametrize("kinds", ["mlp", "ln+mlp"])
def test_what_is_frozen_stays_in_eval_mode(kinds: str) -> None:
    chain = noisy_chain()
    data = examples(pixels(32)[:, :, :2, :2], np.arange(32) % CLASSES)
    recipe = Recipe(blocks="2", kinds=kinds, batch_size=8)
    numbers: Any = {"classes": CLASSES, "horizon": 64, "seed": 0}
    fit = Fit(chain, select(recipe, chain), "pixels", data, data, **numbers)
    buffers = {name: tensor.clone() for name, tensor in fit.model.named_buffers()}
    assert len(buffers) == 9
    frozen = {name: p.clone() for name, p in fit.model.named_parameters() if not p.requires_grad}
    for until in (16, 64):  # an evaluation comes between
        fit.train_until(until)
        below, above = fit.model.groups[:3], fit.model.groups[3:]
        assert not any(module.training for module in below.modules() if module is not below)
        assert above[0].part.drop.training
        assert not above[0].part.norm.training
    # Running statistics are no part of a checkpoint, nor of the best weights: they never move.
    assert_same(dict(fit.model.named_buffers()), buffers)
    parameters = dict(fit.model.named_parameters())
    assert_same({name: parameters[name] for name in frozen}, frozen)


def test_patch_dropout_below_the_boundary_is_off() -> None:
    chain = split_tower(native(patch_dropout=0.5))
    plain = split_tower(native())
    torch.testing.assert_close(chain(pixels(4)), plain(pixels(4)))
    fits = [tuning(tower, "pixels") for tower in (chain, plain)]
    first, second = ([fit.step().item() for _ in range(5)] for fit in fits)
    assert first == pytest.approx(second)


def test_a_prospect_is_the_score_half_way_and_changes_nothing(encoder: Encoder) -> None:
    plain, asked = tuning(encoder), tuning(encoder)
    began = {name: weight.clone() for name, weight in asked.initial_weights().items()}
    assert_same({name: p.detach() for name, p in asked.weights().items()}, began)
    for until in (40, 80):
        evaluation = asked.train_until(until, prospect=True)
        assert replace(evaluation, prospect=None) == plain.train_until(until)
        assert_same(weights(asked), weights(plain))
    plain.set_weights({key: (began[key] + p.detach()) / 2 for key, p in plain.weights().items()})
    assert evaluation.prospect == pytest.approx(plain.evaluate().score, rel=1e-6)
    assert evaluation.prospect != evaluation.score


def test_only_what_trains_and_goes_on_has_a_prospect(encoder: Encoder) -> None:
    assert probe(encoder).train_until(50, prospect=True).prospect is None
    assert tuning(encoder).train_until(400, prospect=True).prospect is None


def with_views(n: int, views: int) -> FeatureDataset:
    first = clusters(n, 1)
    others = tuple(clusters(n, 10 + view, 0.6).features for view in range(views))
    return FeatureDataset(first.features, first.labels, first.rows, others)


def stacked(examples: FeatureDataset) -> FeatureDataset:
    """All copies as examples in their own right."""
    features = np.concatenate([examples.features, *examples.views])
    labels = np.tile(examples.labels, examples.copies)
    return FeatureDataset(features, labels, np.arange(len(labels)))


def trained_on(encoder: Encoder, train: FeatureDataset, **settings: object) -> Fit:
    recipe = Recipe.model_validate({"batch_size": 10, **settings})
    data = (select(recipe, encoder), "head", train, clusters(30, 2))
    fit = Fit(encoder, *data, classes=CLASSES, horizon=300, seed=0)
    fit.train_until(300)
    return fit


@pytest.mark.parametrize("views", [1, 3])
def test_an_exact_probe_is_fitted_to_all_copies(encoder: Encoder, views: int) -> None:
    settings = {"solver": "lbfgs", "weight_decay": [1e-3, 0.1], "views": views}
    copies = with_views(30, views)
    fit = trained_on(encoder, copies, **settings)
    alike = trained_on(encoder, stacked(copies), **settings)
    torch.testing.assert_close(fit.model.head.weight, alike.model.head.weight, rtol=0, atol=1e-5)
    plain = trained_on(encoder, clusters(30, 1), **settings)
    assert (fit.model.head.weight - plain.model.head.weight).norm() > 0.01


def test_a_trained_head_sees_the_views(encoder: Encoder) -> None:
    """The first copies are all alike, so that what is learnt comes from the others."""
    views = with_views(30, 1)
    blind = FeatureDataset(np.zeros_like(views.features), views.labels, views.rows, views.views)
    fit = trained_on(encoder, blind, head_lr=0.05, views=1)
    assert fit.best is not None
    assert fit.best.val_accuracy > 0.9


def test_balanced_accuracy_counts_classes_the_same(encoder: Encoder) -> None:
    train, val = clusters(30, 1, spread=3.0), clusters(60, 2, spread=3.0)
    rows = np.flatnonzero((val.labels == 0) | (np.arange(60) < 20))  # mostly of one class
    uneven = FeatureDataset(val.features, val.labels, rows)
    recipe = Recipe(batch_size=10, head_lr=0.05)
    numbers: Any = {"classes": CLASSES, "horizon": 100, "seed": 0}
    plain, balanced = (
        Fit(encoder, select(recipe, encoder), "head", train, uneven, metric=metric, **numbers)
        for metric in ("accuracy", "balanced_accuracy")
    )
    right = plain.train_until(100).val_accuracy, balanced.train_until(100).val_accuracy
    labels, predictions = val.labels[rows], plain.logits(uneven).argmax(1).numpy()
    shares = [(predictions[labels == c] == c).mean() for c in np.unique(labels)]
    assert right == pytest.approx(((predictions == labels).mean(), np.mean(shares)))
    assert abs(right[0] - right[1]) > 0.01
    assert np.mean(balanced.validate(0)[0]) == pytest.approx(right[1])


def test_log_loss_ranks_fits_by_their_likelihood(encoder: Encoder) -> None:
    train, val = clusters(30, 1, spread=3.0), clusters(60, 2, spread=3.0)
    recipe = Recipe(batch_size=10, head_lr=(0.01, 0.5))
    numbers: Any = {"classes": CLASSES, "horizon": 1000, "seed": 0, "metric": "log_loss"}
    fit = Fit(encoder, select(recipe, encoder), "head", train, val, **numbers)
    found = fit.train_until(1000)
    labels = torch.from_numpy(val.labels)
    losses = [F.cross_entropy(fit.logits(val, head), labels).item() for head in range(2)]
    assert found.head == np.argmin(losses) == 0
    assert found.val_accuracy == pytest.approx(np.exp(-losses[0]), abs=1e-4)
    assert np.mean(fit.validate(0)[0]) == pytest.approx(found.val_accuracy)


def test_balanced_class_weights_are_weights_in_the_loss(encoder: Encoder) -> None:
    data = clusters(30, 1, spread=3.0)
    rows = np.flatnonzero((data.labels == 0) | (np.arange(30) < 12))
    uneven = FeatureDataset(data.features, data.labels, rows)
    recipe = Recipe(batch_size=len(rows), head_lr=0.05, class_weights="balanced")
    numbers: Any = {"classes": CLASSES, "horizon": 10 * len(rows), "seed": 0}
    fit = Fit(encoder, select(recipe, encoder), "head", uneven, uneven, **numbers)
    fit.train_until(3 * len(rows))
    x, y = torch.from_numpy(uneven.features[rows]), torch.from_numpy(uneven.labels[rows])
    head = fit.model.head.head(0)
    logits = x @ head.weight.T + head.bias
    means = [torch.nn.functional.cross_entropy(logits[y == c], y[y == c]) for c in y.unique()]
    assert fit.step().item() == pytest.approx(torch.stack(means).mean().item(), rel=1e-5)
