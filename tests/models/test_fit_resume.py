"""Fits that were interrupted, or diverged: the state goes on, and the best weights come back."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.encoder import Encoder
from models.feature_dataset import FeatureDataset
from models.final_weights import select_weights
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.fits import CLASSES, assert_same, clusters, images, probe, tuning, weights
from tests.models.tiny_towers import at, swin


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize(
    "build",
    [
        lambda encoder: probe(encoder, head_lr=[0.01, 0.05], weight_decay=[0, 0.1], warmup=0.1),
        lambda encoder: tuning(encoder, llrd_decay=0.7, warmup=0.1),
        lambda encoder: tuning(encoder, "block 0", kinds="ln"),
        lambda encoder: tuning(encoder, pull_to_start=0.1),
        lambda _: tuning(split_tower(swin(drop_path_rate=0.5))),
    ],
    ids=["probe", "tuning", "lower boundary", "pulled", "stochastic depth"],
)
def test_an_interrupted_fit_goes_on_bit_by_bit(
    encoder: Encoder, build: Callable[[Encoder], Fit], through_a_file: bool
) -> None:
    whole, first, second = build(encoder), build(encoder), build(encoder)
    expected = [whole.train_until(until) for until in (56, 150, 400)]
    assert first.train_until(56) == expected[0]
    state = first.state_dict()
    if through_a_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    second.load_state_dict(state)
    assert second.best == first.best
    assert [second.train_until(until) for until in (150, 400)] == expected[1:]
    assert_same(weights(second), weights(whole))
    assert second.best == whole.best
    assert_same(vars(second.restore_best()), vars(whole.restore_best()))
    assert_same(weights(second), weights(whole))


def test_loading_alone_changes_nothing(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    evaluation = first.train_until(80)
    second.load_state_dict(first.state_dict())
    assert second.train_until(80) == evaluation
    assert_same(weights(first), weights(second))


def test_what_follows_training_travels_with_the_state(encoder: Encoder) -> None:
    first, second = (tuning(encoder, average=True) for _ in range(2))
    first.train_until(80)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.gradient_norms() == first.gradient_norms() != {}
    for fit in (first, second):
        fit.train_until(200)
    assert second.gradient_norms() == first.gradient_norms()
    assert select_weights(second, (0.5, 0.75)) == select_weights(first, (0.5, 0.75))
    assert_same(weights(first), weights(second))


def test_the_best_weights_travel_with_the_state(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    first.train_until(160)
    at_best = weights(first)
    with torch.no_grad():
        first.model.head.weight.neg_()
    second.load_state_dict(first.state_dict())
    assert_same(weights(second), weights(first))
    second.restore_best()
    assert_same(weights(second), at_best)


@pytest.mark.parametrize("prospect", [False, True])
def test_weights_that_are_the_best_are_saved_once(encoder: Encoder, prospect: bool) -> None:
    def saved(fit: Fit) -> bytes:
        file = io.BytesIO()
        torch.save(fit.state_dict(), file)
        return file.getvalue()

    first, second = (tuning(encoder, average=True) for _ in range(2))
    first.train_until(80, prospect)
    assert first.best is not None
    assert first.best.samples == 80
    once = saved(first)
    at_best = weights(first)
    assert torch.load(io.BytesIO(once), weights_only=True)["best_weights"] is None
    second.load_state_dict(torch.load(io.BytesIO(once), weights_only=True))
    for fit in (first, second):
        fit.step()
        assert not torch.equal(weights(fit)["head.weight"], at_best["head.weight"])
    size = sum(weight.nbytes for weight in first.best_weights.values())
    assert len(saved(first)) - len(once) > size
    assert len(saved(second)) - len(once) > size
    for fit in (first, second):
        fit.restore_best()
        assert_same(weights(fit), at_best)


def test_the_best_weights_are_judged_by_other_images_where_a_state_has_gone_on(
    encoder: Encoder,
) -> None:
    few, many = tuning(encoder), tuning(encoder)
    few._val = replace(few._val, rows=few._val.rows[::3])
    few.train_until(160)
    many.load_state_dict(few.state_dict())
    last, best = weights(many), few.best
    many.judge_again()
    assert_same(weights(many), last)
    assert many.best is not None
    assert best is not None
    assert (many.best.samples, many.best.train_loss) == (best.samples, best.train_loss)
    assert many.best.val_loss != best.val_loss
    many.restore_best()
    again = many.evaluate()
    assert (again.score, again.val_loss) == (many.best.score, many.best.val_loss)


def test_a_state_that_never_was_evaluated_loads(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    second.load_state_dict(first.state_dict())
    assert second.best is None
    assert first.train_until(80) == second.train_until(80)


def test_diverged_fits_are_never_the_best(encoder: Encoder) -> None:
    fit = tuning(encoder)
    good = fit.train_until(80)
    assert good.finite
    with torch.no_grad():
        next(p for p in fit.model.parameters() if p.requires_grad).fill_(math.nan)
    bad = fit.train_until(160)
    assert not bad.finite
    assert bad.score == -math.inf
    assert fit.best == good
    fit.restore_best()
    assert fit.logits(at(encoder, "block 1", *images(15, 2))).isfinite().all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_bad_features_give_no_best(encoder: Encoder, poison: float) -> None:
    train = clusters(30, 1)
    broken = np.array(train.features)
    broken[::3] = poison
    fit = Fit(
        encoder,
        select(Recipe(batch_size=10), encoder),
        "head",
        FeatureDataset(broken, train.labels, train.rows),
        clusters(9, 2),
        classes=CLASSES,
        horizon=90,
        seed=0,
    )
    assert not fit.train_until(60).finite
    assert fit.best is None
    with pytest.raises(RuntimeError, match="diverged"):
        fit.restore_best()


def test_a_huge_rate_is_not_an_error(encoder: Encoder) -> None:
    fit = tuning(encoder, lr=100, head_lr=100, weight_decay=100)
    evaluations = [fit.train_until(until) for until in (200, 399)]
    assert not evaluations[-1].finite
    assert fit.best in (None, evaluations[0])


def test_the_best_weights_come_back_and_not_the_last(encoder: Encoder) -> None:
    fit = tuning(encoder)
    best = fit.train_until(160)
    at_best = weights(fit)
    with torch.no_grad():  # what a bad stretch does: the classes are swapped
        fit.model.head.weight.neg_()
    last = fit.train_until(168)
    assert last.score < best.score
    assert fit.best == best
    head = fit.restore_best()
    assert_same(weights(fit), at_best)
    assert torch.equal(head.weight, at_best["head.weight"][best.head])
    again = fit.train_until(0)
    assert (again.val_accuracy, again.val_loss) == (best.val_accuracy, best.val_loss)
