"""What a run calls accuracy: a figure from 0 to 1 that is the mean of a value for each image.

So every interval and every paired difference is made in one way, whatever the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
WORDS: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "likelihood",
}
"""How tables call each metric. Likelihood is exp(-log loss): as a share it is in points, too."""


def measured(values: NDArray[np.float64]) -> float:
    """Compute the metric from its values of the images."""
    return float(np.clip(values.mean(), 0.0, 1.0))


def image_values(
    predictions: NDArray[np.int64],
    labels: NDArray[np.int64],
    metric: Metric,
    log_likelihoods: Sequence[float] = (),
) -> NDArray[np.float64]:
    """Return a value for each image, shape (images,), whose mean is the metric.

    It is 1 or 0 for accuracy, another weight or 0 for balanced accuracy. Macro F1 is the mean of
    2 TP / (images + predictions) over the classes that have images. It is no mean over images; its
    value of an image is F1 plus the image's influence, the first order of what one more image like
    it changes. As F1 depends on proportions alone, influences add up to zero.

    Likelihood is the geometric mean of the probabilities that the images' classes get, whose
    logarithms are `log_likelihoods`; its values are made in the same way.
    """
    if metric == "log_loss":
        logs = np.array(log_likelihoods)
        return np.asarray(np.exp(logs.mean()) * (1 + logs - logs.mean()))
    right: NDArray[np.float64] = (predictions == labels).astype(float)
    if metric != "macro_f1" or not len(labels):
        return image_weights(labels, metric) * right
    classes = 1 + int(max(labels.max(), predictions.max()))
    images = np.bincount(labels, minlength=classes)
    size = (images + np.bincount(predictions, minlength=classes)) / len(labels)
    share = np.bincount(labels, weights=right, minlength=classes) / len(labels)
    counted = images > 0
    f1 = np.divide(2 * share, size, where=counted, out=np.zeros(classes))
    per_image = np.divide(1.0, size, where=counted, out=np.zeros(classes)) / counted.sum()
    own = (2 * right - f1[labels]) * per_image[labels]
    influence = own - f1[predictions] * per_image[predictions]
    return np.asarray(f1[counted].mean() + influence)


def image_weights(labels: NDArray[np.int64], metric: Metric) -> NDArray[np.float64]:
    """Return what each image counts, shape (images,); the mean is 1.

    In balanced accuracy and macro F1 every class that has images counts the same: an image of class
    c counts n / (C n_c). In macro F1 that is the size of its part, not exactly it.
    """
    if metric in ("accuracy", "log_loss") or not len(labels):
        return np.ones(len(labels))
    counts = np.bincount(labels)
    weights: NDArray[np.float64] = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights
