"""Scores of a cell's final fits on one test set, and the difference of two cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import hypot

import numpy as np
from numpy.typing import NDArray

from report.intervals import Interval, over_images, t_interval


@dataclass(frozen=True)
class Scores:
    """Accuracies on one set of test images.

    Attributes:
        accuracy: by seed.
        correct: by seed, one value per image, 1 if the prediction is right, shape (images,); empty
            if the images' labels are not on disk.
        groups: as `over_images` takes them.
    """

    accuracy: Mapping[int, float]
    correct: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None

    def interval(self) -> Interval:
        """Return the mean over seeds, and its interval over seeds and images (or groups)."""
        return self._interval

    @cached_property
    def _interval(self) -> Interval:
        interval = t_interval(self.accuracy.values())
        if not self.correct:
            return interval
        per_image = np.mean(list(self.correct.values()), axis=0)
        return replace(interval, images=over_images(per_image, self.groups))

    def minus(self, other: Scores) -> Interval | None:
        """Return the difference, paired by seed and by image; None if they share no seed."""
        difference = _combined([self, other], [1.0, -1.0])
        return difference.interval() if difference else None

    def minus_unpaired(self, other: Scores) -> Interval | None:
        """Return the difference between two test sets, paired by seed alone."""
        seeds = sorted(self.accuracy.keys() & other.accuracy.keys())
        if not seeds:
            return None
        difference = t_interval(self.accuracy[s] - other.accuracy[s] for s in seeds)
        widths = [width for s in (self, other) if (width := s.interval().images) is not None]
        return replace(difference, images=hypot(*widths)) if len(widths) == 2 else difference


def mean_of(scores: Sequence[Scores]) -> Scores | None:
    """Return the mean of several cells on the same images, over their common seeds."""
    return _combined(scores, [1 / len(scores)] * len(scores)) if scores else None


def _combined(scores: Sequence[Scores], weights: Sequence[float]) -> Scores | None:
    """Return a weighted sum, by seed and by image, over the common seeds."""
    seeds = sorted(set.intersection(*(set(s.accuracy) for s in scores)))
    if not seeds:
        return None
    pairs = list(zip(weights, scores, strict=True))
    accuracy = {seed: sum(w * s.accuracy[seed] for w, s in pairs) for seed in seeds}
    correct: dict[int, NDArray[np.float64]] = {}
    if all(s.correct for s in scores):
        for seed in seeds:
            correct[seed] = sum((w * s.correct[seed] for w, s in pairs), np.zeros(()))
    return Scores(accuracy, correct, scores[0].groups)
