"""Which weights to keep of a fit that trained layers: validation chooses.

The candidates are the best evaluation's weights, their average over the steps, and the better one
of the two drawn back towards the start (WiSE-FT). The start itself is no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from models.results import Evaluation

if TYPE_CHECKING:
    from models.fit import Fit

WINDOW = 0.1  # of the horizon: the time constant of the average over the steps

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class FinalWeights:
    """What was chosen after training.

    Attributes:
        alpha: how far from the start to the trained weights; 1 for those themselves.
        averaged: whether the trained weights are the averaged ones.
    """

    evaluation: Evaluation
    alpha: float
    averaged: bool


def select_weights(fit: Fit, alphas: Sequence[float]) -> FinalWeights:
    """Choose the final weights of a fit that trained the encoder, and set them as its best.

    `alphas` say how far from the start to the trained weights to try, between 0 and 1.

    Raises:
        RuntimeError: no evaluation was finite.
    """
    fit.restore_best()
    assert fit.best is not None

    def evaluate(weights: Weights) -> Evaluation:
        fit.set_weights(weights)
        return fit.evaluate()

    # On the CPU: a device that held what training takes may not hold as many copies as this.
    fit.best_weights = {key: weight.cpu() for key, weight in fit.best_weights.items()}
    average: Weights | None = None
    if fit.average_weights is not None:  # it goes on with the fit, and what is chosen stays
        average = {k: weight.to("cpu", copy=True) for k, weight in fit.average_weights.items()}
    chosen, weights = choose_weights(
        evaluate, fit.initial_weights(), (fit.best, fit.best_weights), average, alphas
    )
    fit.set_weights(weights)
    fit.best, fit.best_weights = chosen.evaluation, dict(weights)
    return chosen


def choose_weights(
    evaluate: Callable[[Weights], Evaluation],
    start: Weights,
    best: tuple[Evaluation, Weights],
    average: Weights | None,
    alphas: Sequence[float],
) -> tuple[FinalWeights, Weights]:
    """Choose among trained, averaged and interpolated weights by their score on validation.

    A tie stays with what comes first: `best`, then `average` if it was kept, then the larger alpha.
    Interpolated weights count the samples, steps and training loss of the weights they lead to.
    """
    evaluation, end = best
    chosen, weights = FinalWeights(evaluation, 1.0, False), end
    if average is not None:
        evaluation = replace(evaluate(average), train_loss=chosen.evaluation.train_loss)
        if _better(evaluation, chosen.evaluation):
            chosen, end, weights = FinalWeights(evaluation, 1.0, True), average, average
    trained = chosen.evaluation
    for alpha in sorted(alphas, reverse=True):
        between = interpolate(start, end, alpha)
        evaluation = replace(
            evaluate(between),
            samples=trained.samples,
            steps=trained.steps,
            train_loss=trained.train_loss,
        )
        if _better(evaluation, chosen.evaluation):
            chosen, weights = FinalWeights(evaluation, alpha, chosen.averaged), between
    return chosen, weights


def _better(one: Evaluation, other: Evaluation) -> bool:
    return one.finite and one.score > other.score


def interpolate(start: Weights, end: Weights, alpha: float) -> dict[str, Tensor]:
    """Compute (1 - alpha) start + alpha end, weight by weight, in the type and place of `end`.

    WiSE-FT's weight-space ensemble (Wortsman et al. 2022, arXiv:2109.01903).
    """
    return {key: start[key].to(weight).lerp(weight, alpha) for key, weight in end.items()}


def average_decay(batch_size: int, horizon: int) -> float:
    """The share of the average over the steps that stays at each step."""
    return math.exp(-batch_size / (WINDOW * horizon))
