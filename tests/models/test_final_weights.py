"""Averages and interpolations of weights: what they are, and that validation chooses among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from models.encoder import Encoder
from models.feature_dataset import Examples
from models.final_weights import (
    WINDOW,
    FinalWeights,
    Weights,
    average_decay,
    choose_weights,
    interpolate,
    select_weights,
)
from models.fit import Fit
from models.recipe import Recipe
from models.results import Evaluation
from models.selection import select
from tests.models.fits import CLASSES, SEED, assert_same, images, probe
from tests.models.tiny_towers import at

ALPHAS = (0.25, 0.5, 0.75)


def tuned(encoder: Encoder, noise: float = 0.0, until: int = 400, **settings: Any) -> Fit:
    """A fit of block 2, of whose training labels a share is wrong."""
    defaults = {"blocks": "2", "lr": 3e-3, "head_lr": 0.01, "batch_size": 8}
    train, val = at(encoder, "block 2", *images(24, 1)), at(encoder, "block 2", *images(15, 2))
    wrong = np.arange(24) < noise * 24
    labels = np.where(wrong, (train.labels + 1) % CLASSES, train.labels)
    recipe = Recipe.model_validate({**defaults, **settings})
    fit = Fit(
        encoder,
        select(recipe, encoder),
        "block 2",
        Examples(train.features, labels, train.rows),
        val,
        classes=CLASSES,
        horizon=400,
        seed=SEED,
        average=True,
    )
    for share in (1 / 4, 1 / 2, 1):
        fit.train_until(round(share * until))
    return fit


def now(fit: Fit) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in fit.weights().items()}


def averages(fit: Fit) -> dict[str, Tensor]:
    assert fit.average_weights is not None
    return {name: weight.clone() for name, weight in fit.average_weights.items()}


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 64)), max_size=8), st.integers(1, 5000))
def test_the_average_is_the_plain_loops(moves: list[tuple[float, int]], horizon: int) -> None:
    live = torch.zeros(2, dtype=torch.float64)
    average, expected = live.clone(), live.clone()
    for move, batch in moves:
        kept = math.exp(-batch / (WINDOW * horizon))
        live += move
        expected = kept * expected + (1 - kept) * live
        get_ema_multi_avg_fn(average_decay(batch, horizon))([average], [live], None)
    torch.testing.assert_close(average, expected)


def test_halving_the_batch_forgets_as_fast() -> None:
    """The window is in samples, not in steps."""
    assert average_decay(8, 1000) ** 2 == pytest.approx(average_decay(16, 1000))


def test_a_fits_average_is_of_its_weights_after_every_step(encoder: Encoder) -> None:
    fit = tuned(encoder, until=0)
    expected = now(fit)
    kept = math.exp(-8 / (WINDOW * 400))
    for _ in range(12):
        fit.step()
        for name, weight in now(fit).items():
            expected[name] = kept * expected[name] + (1 - kept) * weight
    for name, weight in averages(fit).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6)


@given(st.floats(0, 1))
def test_interpolation_goes_from_start_to_end(alpha: float) -> None:
    start, end = {"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([3.0, 5.0])}
    between = interpolate(start, end, alpha)
    torch.testing.assert_close(between["a"], (1 - alpha) * start["a"] + alpha * end["a"])
    assert start["a"].tolist() == [1, -2]
    assert end["a"].tolist() == [3, 5]


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("lr", [1e-3, 3e-2])
def test_the_choice_is_never_worse_and_leaves_what_it_reports(
    encoder: Encoder, noise: float, lr: float
) -> None:
    fit = tuned(encoder, noise, lr=lr)
    assert fit.best is not None
    before, best = fit.best, dict(fit.best_weights)
    chosen = select_weights(fit, ALPHAS)
    assert chosen.evaluation.score >= before.score
    assert fit.best == chosen.evaluation
    assert (chosen.evaluation.samples, chosen.evaluation.steps) == (before.samples, before.steps)
    assert chosen.evaluation.train_loss == before.train_loss
    # The fit now has exactly the weights that were chosen, and evaluates as was said.
    start, end = fit.initial_weights(), averages(fit) if chosen.averaged else best
    weights = end if chosen.alpha == 1 else interpolate(start, end, chosen.alpha)
    assert_same(now(fit), weights)
    again = fit.evaluate()
    for name in ("val_accuracy", "val_loss", "score", "weight_distance"):
        assert getattr(again, name) == getattr(chosen.evaluation, name), name
    assert_same(vars(fit.restore_best()), vars(fit.model.head.head(0)))
    # Whatever was better than what was chosen would have been chosen.
    for alpha in ALPHAS:
        fit.set_weights(interpolate(start, end, alpha))
        assert fit.evaluate().score <= chosen.evaluation.score


def test_the_choice_is_a_function_of_the_fit(encoder: Encoder) -> None:
    fits = [tuned(encoder, 0.4) for _ in range(2)]
    one, other = (select_weights(fit, ALPHAS) for fit in fits)
    assert one == other
    assert_same(now(fits[0]), now(fits[1]))
    assert select_weights(tuned(encoder, 0.4), ALPHAS[::-1]) == one


def test_what_was_chosen_stays_while_the_average_goes_its_own_way(encoder: Encoder) -> None:
    fit = tuned(encoder)
    assert fit.average_weights is not None
    with torch.no_grad():  # the average is as good as the best, which is spoilt
        for name, weight in fit.average_weights.items():
            weight.copy_(fit.best_weights[name])
    fit.set_weights({name: -weight for name, weight in fit.best_weights.items()})
    fit.best, fit.best_weights = fit.evaluate(), now(fit)
    assert select_weights(fit, ()).averaged
    chosen = now(fit)
    fit.average_weights["head/bias"].fill_(7)
    fit.restore_best()
    assert_same(now(fit), chosen)


def test_a_diverged_fit_has_nothing_to_choose_from(encoder: Encoder) -> None:
    fit = probe(encoder)
    with pytest.raises(RuntimeError, match="diverged"):
        select_weights(fit, ALPHAS)


# From here on weights are one number, and evaluations say how near it is to a target.


def weight(value: float) -> dict[str, Tensor]:
    return {"w": torch.tensor(value, dtype=torch.float64)}


def nearness(target: float) -> Callable[[Weights], Evaluation]:
    def evaluate(weights: Weights) -> Evaluation:
        distance = abs(weights["w"].item() - target)
        score = 1 - distance if math.isfinite(distance) else -math.inf
        return Evaluation(400, 50, math.nan, 1.0, distance, score, 0, 0.0)

    return evaluate


def choice(
    target: float, best: float, average: float | None = None, alphas: tuple[float, ...] = ALPHAS
) -> tuple[FinalWeights, float]:
    """What is chosen where training went from 0 to `best`, and the chosen weight."""
    evaluate = nearness(target)
    evaluation = Evaluation(**{**vars(evaluate(weight(best))), "samples": 200, "train_loss": 0.5})
    kept = None if average is None else weight(average)
    chosen, weights = choose_weights(evaluate, weight(0), (evaluation, weight(best)), kept, alphas)
    return chosen, weights["w"].item()


def test_interpolation_wins_where_tuning_overshot() -> None:
    """Though the training loss had diverged in the end, as `nearness` says."""
    chosen, found = choice(target=1.0, best=4.0)
    assert (chosen.alpha, chosen.averaged, found) == (0.25, False, 1.0)
    assert chosen.evaluation.score == 1
    # It is reported as the end it lies on the way to.
    assert (chosen.evaluation.samples, chosen.evaluation.train_loss) == (200, 0.5)


def test_nothing_better_leaves_the_best_weights() -> None:
    chosen, found = choice(target=4.0, best=4.0, average=4.0)
    assert (chosen.alpha, chosen.averaged, found) == (1.0, False, 4.0)


def test_a_tie_stays_with_what_comes_first() -> None:
    """At 0 all candidates are the same; at 5 the two interpolations are equally near."""
    assert choice(target=1.0, best=0.0, average=0.0)[0].alpha == 1
    assert choice(target=5.0, best=8.0, alphas=(0.5, 0.75))[0].alpha == 0.75


def test_the_start_itself_is_no_candidate() -> None:
    chosen, found = choice(target=0.0, best=4.0, alphas=())
    assert (chosen.alpha, found) == (1.0, 4.0)


def test_an_average_wins_where_the_last_steps_ran_away() -> None:
    chosen, found = choice(target=3.0, best=4.0, average=3.0, alphas=())
    assert (chosen.alpha, chosen.averaged, found) == (1.0, True, 3.0)
    assert (chosen.evaluation.samples, chosen.evaluation.train_loss) == (400, 0.5)


def test_the_better_of_tuned_and_averaged_is_drawn_back() -> None:
    chosen, found = choice(target=0.8, best=4.0, average=3.2)
    assert (chosen.alpha, chosen.averaged) == (0.25, True)
    assert found == pytest.approx(0.8)


def test_an_average_that_is_not_finite_is_passed_over() -> None:
    chosen, _ = choice(target=4.0, best=4.0, average=math.nan)
    assert not chosen.averaged
    assert chosen.evaluation.finite


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9), st.sets(st.floats(0.1, 0.9)))
def test_the_choice_is_the_best_of_its_candidates(
    target: float, best: float, average: float, alphas: set[float]
) -> None:
    chosen, found = choice(target, best, average, tuple(alphas))
    end = average if abs(average - target) < abs(best - target) else best
    candidates = [best, average, *(alpha * end for alpha in alphas)]
    assert abs(found - target) == pytest.approx(min(abs(c - target) for c in candidates))
    assert chosen.evaluation.score >= 1 - abs(best - target)
