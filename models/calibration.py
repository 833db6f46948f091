"""What logits say: probabilities, honest ones by temperature scaling, and a metric's values."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics import Metric, image_values

RANGE = (0.01, 100.0)
BLOCK = 1 << 20
"""Logits that are made float64 at once (8 MiB): memory may not hold all of many classes twice."""
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

    def loss(log_t: float) -> float:
        return -_log_probabilities(logits, labels, math.exp(log_t)).mean().item()

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded")
    return float(f"{math.exp(found.x):.6g}")


def log_likelihoods(logits: Tensor, labels: Tensor) -> list[float]:
    """Compute the log probability of each image's class from logits (n, C), to 6 digits.

    It is `LEAST` at the lowest, and where logits are not finite numbers.
    """
    return six_digits(bounded_logs(logits, labels))


def bounded_logs(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute `log_likelihoods` in float64 (n,), where the logits lie."""
    return _log_probabilities(logits, labels).nan_to_num(LEAST).clamp(min=LEAST)


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
    _, log_sums = _log_sums(logits, temperature)
    return [round(value, 4) for value in (-log_sums).exp().nan_to_num(0.0).tolist()]


def _log_probabilities(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the log probability (n,) of each image's class."""
    most, log_sums = _log_sums(logits, temperature)
    own = logits.gather(-1, labels[:, None])[:, 0].double()
    return (own - most) / temperature - log_sums


def _log_sums(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return each row's largest logit l (n,), and log sum exp((logits - l) / temperature)."""
    n, classes = logits.shape
    rows = max(1, BLOCK // classes)
    buffer = logits.new_empty((min(n, rows), classes), dtype=torch.float64)
    most, sums = logits.new_empty((2, n), dtype=torch.float64)
    for begin in range(0, n, rows):
        some = slice(begin, begin + rows)
        exact = buffer[: min(rows, n - begin)].copy_(logits[some])
        most[some] = exact.amax(-1)
        sums[some] = exact.sub_(most[some, None]).div_(temperature).exp_().sum(-1)
    return most, sums.log()
