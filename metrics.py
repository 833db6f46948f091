"""What accuracy means: the share of images, or the mean over classes of such shares."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["accuracy", "balanced_accuracy"]


def image_weights(labels: NDArray[np.int64], metric: Metric) -> NDArray[np.float64]:
    """Return what each image counts in an accuracy, shape (images,); the mean is 1.

    In balanced accuracy every class that has images counts the same: an image of class c counts
    n / (C n_c).
    """
    if metric == "accuracy" or not len(labels):
        return np.ones(len(labels))
    counts = np.bincount(labels)
    weights: NDArray[np.float64] = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights


def weighted_accuracy(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], metric: Metric
) -> float:
    """Compute the accuracy of predictions, both of shape (images,)."""
    return min(1.0, float((image_weights(labels, metric) * (predictions == labels)).mean()))
