"""Averages and interpolations of weights: what they are, and that validation chooses among them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.averaging import WINDOW, WeightAverage, interpolated
from models.encoder import Encoder
from models.feature_dataset import Examples
from models.fit import Fit
from models.recipe import Recipe
from models.results import Evaluation
from tests.models.fits import CLASSES, SEED, assert_same, images, probe
from tests.models.tiny_towers import at

ALPHAS = (0.25, 0.5, 0.75)


def tuned(
    encoder: Encoder, noise: float = 0.0, average: bool = True, until: int = 400, **settings: Any
) -> Fit:
    """A fit of block 2, of whose training labels a share is wrong."""
    defaults = {"blocks": "2", "lr": 3e-3, "head_lr": 0.01, "batch_size": 8}
    train, val = at(encoder, "block 2", *images(24, 1)), at(encoder, "block 2", *images(15, 2))
    wrong = np.arange(24) < noise * 24
    labels = np.where(wrong, (train.labels + 1) % CLASSES, train.labels)
    fit = Fit(
        encoder,
        Recipe.model_validate({**defaults, **settings}),
        "block 2",
        Examples(train.features, labels, train.rows),
        val,
        classes=CLASSES,
        horizon=400,
        seed=SEED,
        average=average,
    )
    for share in (1 / 4, 1 / 2, 1):
        fit.advance(round(share * until))
    return fit


def evaluated(fit: Fit) -> Evaluation:
    """Evaluate a fit that took no step, as if it had."""
    fit._train_loss = [1.0]
    return fit.advance(0)


def now(fit: Fit) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in fit._weights().items()}


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 64)), max_size=8), st.integers(1, 5000))
def test_the_average_is_the_plain_loops(moves: list[tuple[float, int]], horizon: int) -> None:
    live = {"a": torch.zeros(2, dtype=torch.float64), "b": torch.ones(1, dtype=torch.float64)}
    average = WeightAverage(live, horizon)
    expected = {name: weight.clone() for name, weight in live.items()}
    for move, batch in moves:
        kept = math.exp(-batch / (WINDOW * horizon))
        for name, weight in live.items():
            weight += move
            expected[name] = kept * expected[name] + (1 - kept) * weight
        average.update(batch)
    for name, weight in expected.items():
        torch.testing.assert_close(average.weights[name], weight)


def test_halving_the_batch_forgets_as_fast() -> None:
    """The window is in samples, not in steps."""
    averages = []
    for batch in (8, 16):
        live = {"a": torch.zeros(1, dtype=torch.float64)}
        averages.append(WeightAverage(live, 1000))
        live["a"] += 1
        for _ in range(64 // batch):
            averages[-1].update(batch)
    torch.testing.assert_close(averages[0].weights, averages[1].weights)


def test_a_fits_average_is_of_its_weights_after_every_step(encoder: Encoder) -> None:
    fit = tuned(encoder, until=0)
    expected = now(fit)
    kept = math.exp(-8 / (WINDOW * 400))
    for _ in range(12):
        fit.step()
        for name, weight in now(fit).items():
            expected[name] = kept * expected[name] + (1 - kept) * weight
    assert fit._average is not None
    for name, weight in fit._average.weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6)


@given(st.floats(0, 1))
def test_interpolation_goes_from_start_to_end(alpha: float) -> None:
    start, end = {"a": torch.tensor([1.0, -2.0])}, {"a": torch.tensor([3.0, 5.0])}
    between = interpolated(start, end, alpha)
    torch.testing.assert_close(between["a"], (1 - alpha) * start["a"] + alpha * end["a"])
    assert start["a"].tolist() == [1, -2]
    assert end["a"].tolist() == [3, 5]


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("lr", [1e-3, 3e-2])
def test_polish_is_never_worse_and_leaves_what_it_reports(
    encoder: Encoder, noise: float, lr: float
) -> None:
    fit = tuned(encoder, noise, lr=lr)
    assert fit.best is not None
    before, best = fit.best, dict(fit._best_weights)
    polish = fit.polish(ALPHAS)
    assert polish.evaluation.score >= before.score
    assert fit.best == polish.evaluation
    assert (polish.evaluation.samples, polish.evaluation.steps) == (before.samples, before.steps)
    assert polish.evaluation.train_loss == before.train_loss
    # The fit now has exactly the weights that were chosen, and evaluates as was said.
    assert fit._average is not None
    end = fit._average.weights if polish.averaged else best
    chosen = end if polish.alpha == 1 else interpolated(fit._began, end, polish.alpha)
    assert_same(now(fit), dict(chosen))
    again = fit._evaluate()
    for name in ("val_accuracy", "val_loss", "score", "weight_distance"):
        assert getattr(again, name) == getattr(polish.evaluation, name), name
    assert_same(vars(fit.restore_best()), vars(fit.model.head.head(0)))
    # Whatever was better than what was chosen would have been chosen.
    for alpha in ALPHAS:
        fit._set(interpolated(fit._began, end, alpha))
        assert fit._evaluate().score <= polish.evaluation.score


def test_polish_is_a_function_of_the_fit(encoder: Encoder) -> None:
    fits = [tuned(encoder, 0.4) for _ in range(2)]
    one, other = (fit.polish(ALPHAS) for fit in fits)
    assert one == other
    assert_same(now(fits[0]), now(fits[1]))
    assert tuned(encoder, 0.4).polish(ALPHAS[::-1]) == one


def test_nothing_better_leaves_the_best_weights(encoder: Encoder) -> None:
    """Of a fit that never moved all candidates are the same: a tie stays with what comes first."""
    fit = tuned(encoder, until=0)
    evaluation = evaluated(fit)
    polish = fit.polish(ALPHAS)
    assert (polish.alpha, polish.averaged) == (1.0, False)
    assert polish.evaluation.score == evaluation.score


def overshot(encoder: Encoder, average: bool = False) -> Fit:
    """A start that is perfect, and "tuned" weights that went past it in the wrong direction."""
    good = tuned(encoder)
    good.restore_best()
    fit = tuned(encoder, average=average, until=0)
    with torch.no_grad():
        for name, weight in now(good).items():
            fit._began[name] = weight
            # Halfway back it is still right; at the end it is on the other side.
            moved = weight - 1.6 * weight if name.startswith("head/") else weight
            fit._weights()[name].copy_(moved)
    evaluated(fit)
    return fit


def test_interpolation_wins_where_tuning_overshot(encoder: Encoder) -> None:
    fit = overshot(encoder)
    assert fit.best is not None
    assert fit.best.val_accuracy < 0.5
    end = dict(fit._best_weights)
    polish = fit.polish(ALPHAS)
    assert polish.alpha == 0.25
    assert not polish.averaged
    assert polish.evaluation.val_accuracy > 0.9
    assert_same(now(fit), interpolated(fit._began, end, 0.25))


def test_the_start_itself_is_no_candidate(encoder: Encoder) -> None:
    fit = overshot(encoder)
    fit.polish(())
    assert fit.best is not None
    assert fit.best.val_accuracy < 0.5
    assert fit.best.weight_distance == 0  # of the encoder, which was not moved here


def test_an_average_wins_where_the_last_steps_ran_away(encoder: Encoder) -> None:
    good = tuned(encoder)
    good.restore_best()
    fit = overshot(encoder, average=True)
    assert fit._average is not None
    for name, weight in now(good).items():
        fit._average.weights[name].copy_(weight)
    polish = fit.polish(())
    assert (polish.alpha, polish.averaged) == (1.0, True)
    assert_same(now(fit), now(good))
    # The average goes its own way, and what was chosen stays.
    chosen = now(fit)
    fit._average.weights["head/bias"].fill_(7)
    fit.restore_best()
    assert_same(now(fit), chosen)


def test_the_better_of_tuned_and_averaged_is_drawn_back(encoder: Encoder) -> None:
    fit = overshot(encoder, average=True)
    assert fit._average is not None
    for name, weight in fit._began.items():
        # Wrong as well, but not by as much.
        fit._average.weights[name].copy_(weight - 1.3 * weight if "head/" in name else weight)
    average = {name: weight.clone() for name, weight in fit._average.weights.items()}
    polish = fit.polish((0.25,))
    assert (polish.alpha, polish.averaged) == (0.25, True)
    assert_same(now(fit), interpolated(fit._began, average, 0.25))


def test_an_average_that_is_not_finite_is_passed_over(encoder: Encoder) -> None:
    fit = tuned(encoder)
    assert fit._average is not None
    fit._average.weights["head/weight"].fill_(math.nan)
    polish = fit.polish(ALPHAS)
    assert not polish.averaged
    assert polish.evaluation.finite


def test_interpolation_is_tried_though_training_diverged_in_the_end(encoder: Encoder) -> None:
    fit = overshot(encoder)
    fit._train_loss = [math.nan]
    assert fit.polish(ALPHAS).alpha == 0.25


def test_a_diverged_fit_has_nothing_to_polish(encoder: Encoder) -> None:
    fit = probe(encoder)
    with pytest.raises(RuntimeError, match="diverged"):
        fit.polish(ALPHAS)
