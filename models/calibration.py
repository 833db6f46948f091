"""What logits say: probabilities, honest ones by temperature scaling, and a metric's values."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metrics import Metric, image_values

RANGE = (0.01, 100.0)
LEAST = -30.0
"""The lowest log probability that counts, so that one image does not outweigh all others."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Find the temperature T by which softmax(logits / T) has the least mean cross-entropy.

    Guo et al. 2017 (arXiv:1706.04599). The loss is convex in 1 / T, so it has one minimum. Where
    every image is classified right it falls for ever as T does, and says nothing of how sure to be:
    T is then 1, which leaves the probabilities as they are.

    Args:
        logits: (n, C), of images that the classifier was not trained on.
        labels: (n,) class ids.

    Returns:
        T, within `RANGE`, to 6 digits.
    """
    if (logits.argmax(-1) == labels).all():
        return 1.0
    from scipy.optimize import minimize_scalar  # slow to import, and for final fits alone

    exact = logits.double()

    def loss(log_t: float) -> float:
        return F.cross_entropy(exact / math.exp(log_t), labels).item()

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded")
    return float(f"{math.exp(found.x):.6g}")


def log_likelihoods(logits: Tensor, labels: Tensor) -> list[float]:
    """Compute the log probability of each image's class from logits (n, C), to 6 digits.

    It is `LEAST` at the lowest, and where logits are not finite numbers.
    """
    return six_digits(bounded_logs(logits, labels))


def bounded_logs(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute `log_likelihoods` in float64 (n,), where the logits lie."""
    found = logits.double().log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    return found.nan_to_num(LEAST).clamp(min=LEAST)


def six_digits(logs: Tensor) -> list[float]:
    """Round as files have log probabilities (n,)."""
    return [round(value, 6) for value in logs.tolist()]


def judged(logits: Tensor, labels: NDArray[np.int64], metric: Metric) -> NDArray[np.float64]:
    """Return a value for each image by its logits (n, C); their mean is the metric."""
    logs = log_likelihoods(logits, torch.from_numpy(labels)) if metric == "log_loss" else ()
    return image_values(logits.argmax(-1).numpy(), labels, metric, logs)


def confidences(logits: Tensor, temperature: float = 1.0) -> list[float]:
    """Compute the probability of each image's predicted class from logits (n, C), to 4 digits.

    It is 0 where logits are not finite numbers.
    """
    found = (logits.double() / temperature).softmax(-1).amax(-1).nan_to_num(0.0)
    return [round(value, 4) for value in found.tolist()]
