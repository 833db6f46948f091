"""How good heads are on some images, worked out where the embeddings lie.

Of each image one number comes back from the device, not the logits of every class.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metrics import Metric, image_values
from models.calibration import bounded_logs, six_digits
from models.head import HeadBank
from models.micro_batches import cpu_on_oom

BLOCK = 1 << 24  # logits (64 MiB): memory may not hold those of all images, nor of all heads


@torch.no_grad()
def judge_heads(
    heads: HeadBank, embeddings: Tensor, labels: NDArray[np.int64], metric: Metric
) -> Iterator[tuple[NDArray[np.float64], float]]:
    """Yield each head's values of the images, whose mean is the metric, and mean cross-entropy.

    Embeddings (n, d) lie where the heads do; labels are class ids (n,).
    """
    there = torch.from_numpy(labels).to(embeddings.device)
    judged = [
        cpu_on_oom(partial(_judged, metric), embeddings, there, *head).to(there.device)
        for head in zip(heads.weight, heads.bias, strict=True)
    ]
    for row in torch.stack(judged).cpu():  # the device is waited for once
        found, loss = row[:-1], row[-1].item()
        if metric == "log_loss":
            yield image_values(labels, labels, metric, six_digits(found)), loss
        else:
            yield image_values(found.long().numpy(), labels, metric), loss


@torch.no_grad()
def head_losses(
    heads: HeadBank, embeddings: Tensor, labels: Tensor, label_smoothing: float
) -> list[float]:
    """Compute each head's mean cross-entropy on embeddings (n, d) with class ids (n,)."""
    work = partial(_mean_loss, label_smoothing)
    found = [
        cpu_on_oom(work, embeddings, labels, *head).to(labels.device)
        for head in zip(heads.weight, heads.bias, strict=True)
    ]
    losses: list[float] = torch.stack(found).tolist()
    return losses


def _judged(metric: Metric, x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what a metric's values follow from (n,), and the mean cross-entropy: (n + 1,).

    That is the log probability of an image's class for the likelihood, and for all other metrics
    the predicted class, which float32 holds exactly up to 2^24.
    """
    found, losses = [], []
    for logits, classes in _blocks(x, labels, weight, bias):
        exact = logits.float()
        losses.append(F.cross_entropy(exact, classes, reduction="none"))
        likelihood = metric == "log_loss"
        found.append(bounded_logs(exact, classes) if likelihood else exact.argmax(-1).float())
    values = torch.cat(found)
    return torch.cat([values, torch.cat(losses)[None].mean(1).to(values)])


def _mean_loss(
    label_smoothing: float, x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    total = bias.new_zeros(())
    for logits, classes in _blocks(x, labels, weight, bias):
        share = len(classes) / len(labels)
        total += share * F.cross_entropy(logits, classes, label_smoothing=label_smoothing)
    return total


def _blocks(
    x: Tensor, labels: Tensor, weight: Tensor, bias: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a head's logits (rows, C) and the labels of some images after others."""
    rows = max(1, BLOCK // len(bias))
    for some, classes in zip(x.split(rows), labels.split(rows), strict=True):
        yield F.linear(some, weight, bias), classes
