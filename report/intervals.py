"""Means over seeds with their 95% intervals, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds, and the half-width of its 95% t-interval (None for one seed)."""

    mean: float
    half_width: float | None
    n: int

    def points(self, sign: str = "") -> str:
        """Write a fraction in percentage points, `87.3 ± 0.8`; `sign="+"` shows a plus."""
        mean = f"{100 * self.mean:{sign}.1f}"
        return mean if self.half_width is None else f"{mean} ± {100 * self.half_width:.1f}"


def t_interval(values: Iterable[float]) -> Interval:
    """Return the mean and 95% interval of independent values (Student t, n - 1 degrees).

    >>> t_interval([0.90, 0.92, 0.94]).points()
    '92.0 ± 5.0'
    """
    sample = np.array(list(values), dtype=float)
    n = sample.size
    if n < 2:
        return Interval(float(sample.mean()), None, n)
    standard_error = float(sample.std(ddof=1)) / n**0.5
    return Interval(float(sample.mean()), float(student_t.ppf(0.975, n - 1)) * standard_error, n)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """Return the interval of `ours - theirs` over the seeds both have; None without any."""
    seeds = sorted(ours.keys() & theirs.keys())
    return t_interval(ours[seed] - theirs[seed] for seed in seeds) if seeds else None
