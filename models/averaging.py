"""Weights after training: averaged over steps, and interpolated with where they began."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

WINDOW = 0.1  # of the horizon: the time constant of the average

Weights = Mapping[str, Tensor]


class WeightAverage:
    """An exponential moving average of weights over the steps of a fit.

    Args:
        weights: what is averaged, by name; the average starts as a copy.
        horizon: samples of the fit.
    """

    def __init__(self, weights: Weights, horizon: int) -> None:
        self._live = list(weights.values())
        self._horizon = horizon
        self.weights = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, batch_size: int) -> None:
        """Take in the weights after a step of `batch_size` samples."""
        share = 1 - math.exp(-batch_size / (WINDOW * self._horizon))
        torch._foreach_lerp_(list(self.weights.values()), self._live, share)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Go on from another average of the same weights."""
        for name, average in self.weights.items():
            average.copy_(weights[name])


def interpolated(start: Weights, end: Weights, alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) start + alpha end, weight by weight, in the type and place of `end`.

    WiSE-FT's weight-space ensemble (Wortsman et al. 2022, arXiv:2109.01903).
    """
    return {name: start[name].to(weight).lerp(weight, alpha) for name, weight in end.items()}
