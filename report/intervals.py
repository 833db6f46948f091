"""95% confidence intervals from two independent sources: the seeds and the test images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes most of a second to import

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean, and the half-width of its 95% confidence interval from each source.

    Attributes:
        seeds: half-width from the final seeds; None for one seed.
        images: half-width from the draw of test images; None if their labels are not on disk.
    """

    mean: float
    seeds: float | None
    images: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half-width from all known sources: the variances of independent errors add up."""
        known = [width for width in (self.seeds, self.images) if width is not None]
        return hypot(*known) if known else None

    @property
    def known(self) -> bool:
        """Whether the interval covers the draw of the training images, which takes two seeds."""
        return self.seeds is not None

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out zero; never with one seed."""
        return self.known and abs(self.mean) > (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + (self.half_width or 0.0)

    def points(self, sign: str = "") -> str:
        """Write the interval in percentage points, `87.3 ± 0.8`; `sign="+"` shows a plus."""
        mean = f"{100 * self.mean:{sign}.1f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.1f}"

    def ends(self) -> str:
        """Write both ends in percentage points, `1.2 to 3.0`; two decimals if one is near zero."""
        half = self.half_width or 0.0
        ends = self.mean - half, self.mean + half
        digits = 1 if min(map(abs, ends)) >= 0.0005 else 2
        return " to ".join(_points(end, digits) for end in ends)

    def negative(self) -> Interval:
        """Return the interval of the negated quantity."""
        return replace(self, mean=-self.mean)


def t_interval(values: Iterable[float]) -> Interval:
    """Return the mean and 95% confidence interval of independent values (Student t).

    >>> t_interval([0.90, 0.92, 0.94]).points()
    '92.0 ± 5.0'
    """
    sample = np.array(list(values), dtype=float)
    n = sample.size
    if n < 2:
        return Interval(float(sample.mean()), None)
    standard_error = float(sample.std(ddof=1)) / n**0.5
    return Interval(float(sample.mean()), float(stdtrit(n - 1, 0.975)) * standard_error)


def over_images(values: NDArray[np.float64], groups: NDArray[np.int64] | None = None) -> float:
    """Return the half-width of the 95% interval of a mean by the bootstrap over test images.

    It is 1.96 standard deviations of the means of 2,000 resamples (Efron 1979) with a fixed seed.
    Groups, such as bursts or patients, are resampled whole (the cluster bootstrap, Field & Welsh
    2007), and a resample's mean is over its images. If the images of a group are alike, a bootstrap
    over single images would be too narrow, by up to the square root of the group's size.

    If the n groups have one mean, all resamples are equal. Then it is the exact bound on how
    frequent another mean can be if n groups have not shown it (Clopper & Pearson 1934): 3.7/n.

    Args:
        values: one per image, shape (images,): whether the prediction is right, or a mean or
            difference of such values.
        groups: the group of each image, shape (images,), numbered from 0 without a gap; without
            it, each image is a group.
    """
    groups = np.arange(values.size) if groups is None else groups
    sizes, sums = np.bincount(groups), np.bincount(groups, weights=values)
    # Values are rounded because the same mean, summed in another order, differs in its last digits.
    if np.unique(np.round(sums / sizes, 9)).size == 1:
        return _unseen(sizes.size)
    # Groups with one sum and one size are interchangeable. So a resample is a multinomial draw of
    # the count of each kind: the same distribution, at the cost of a few kinds instead of all.
    kinds = np.round(np.column_stack([sums, sizes]), 9)
    distinct, counts = np.unique(kinds, axis=0, return_counts=True)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(sizes.size, counts / sizes.size, size=RESAMPLES)
    totals = drawn @ distinct
    return float(ndtri(0.975) * (totals[:, 0] / totals[:, 1]).std(ddof=1))


def _unseen(n: int) -> float:
    """Return the share that a value can have if none of n draws shows it, at 97.5% confidence."""
    return float(1 - 0.025 ** (1 / n))


def _points(fraction: float, digits: int) -> str:
    text = f"{100 * fraction:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text
