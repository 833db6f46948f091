"""What more images would bring: several families of learning curves, never one alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 4  # points; fewer bend every curve as they like
DRAWS = 200  # of the points within their intervals
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """A family of curves: the error after n images is a * shape(n, rate) + c, with a and c >= 0.

    `n` is relative to the largest number of images that was measured.
    """

    name: str
    shape: Callable[[Values, float], Values]
    rates: Values


FAMILIES = (
    Family("power law", lambda n, rate: n**-rate, np.geomspace(0.05, 3, 40)),
    Family("logarithmic", lambda n, _: -np.log(n), np.ones(1)),
    Family("exponential", lambda n, rate: np.exp(-rate * n), np.geomspace(0.2, 50, 40)),
)


@dataclass(frozen=True)
class Forecast:
    """Accuracies that the families expect.

    Attributes:
        images: where, shape (places,).
        curves: by family, shape (places,).
        low, high: from the lowest to the highest 95% range of any family, shape (places,).
    """

    images: Values
    curves: Mapping[str, Values]
    low: Values
    high: Values


def forecast(
    images: Sequence[float], accuracy: Sequence[float], half: Sequence[float], at: Sequence[float]
) -> Forecast | None:
    """Fit every family to accuracies, and extend them; None with fewer than 4 sizes.

    The spread covers the choice of the family, and the measurements' intervals: every family is
    also fitted to draws of the points.

    Args:
        images: numbers of training images, one for each point.
        accuracy: as fractions.
        half: half-widths of their 95% intervals.
        at: numbers of images to extend the curves to.
    """
    if len({*images}) < FEWEST:
        return None
    n, where = np.array(images) / max(images), np.array(at) / max(images)
    errors, sigma = 1 - np.array(accuracy), np.maximum(np.array(half) / 1.96, 1e-3)
    generator = np.random.default_rng(0)
    drawn = errors + sigma * generator.standard_normal((DRAWS, n.size))
    curves, lows, highs = {}, [], []
    for family in FAMILIES:
        found = _extended(family, n, np.vstack([errors, drawn]), sigma, where)
        curves[family.name] = np.clip(1 - found[0], 0.0, 1.0)
        lows.append(np.quantile(1 - found, 0.025, axis=0))
        highs.append(np.quantile(1 - found, 0.975, axis=0))
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    return Forecast(np.array(at, dtype=float), curves, low.clip(0, 1), high.clip(0, 1))


def _extended(family: Family, n: Values, errors: Values, sigma: Values, where: Values) -> Values:
    """Fit a family to rows of errors, shape (rows, points), and extend it: (rows, places).

    For one rate it is a linear least-squares problem of two parameters that are not negative, so
    that one of three solutions is the best: both are free, or either is 0.
    """
    best = np.full(len(errors), np.inf)
    values = np.zeros((len(errors), where.size))
    weight = sigma**-2 / (sigma**-2).sum()
    middle = errors @ weight
    for rate in family.rates:
        x, ahead = family.shape(n, rate), family.shape(where, rate)
        centre = weight @ x
        slope = ((errors - middle[:, None]) @ (weight * (x - centre))) / (
            weight @ (x - centre) ** 2
        )
        through = (errors @ (weight * x)) / (weight @ x**2)
        solutions = (
            (slope, middle - slope * centre),
            (through, np.zeros_like(middle)),
            (np.zeros_like(middle), middle),
        )
        for a, c in solutions:
            loss = ((a[:, None] * x + c[:, None] - errors) ** 2) @ weight
            better = (loss < best) & (a >= 0) & (c >= 0)
            best[better] = loss[better]
            values[better] = (a[:, None] * ahead + c[:, None])[better]
    return values
