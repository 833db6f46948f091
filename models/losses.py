"""The loss of a bank of heads, and the weights of its classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics import image_weights
from models.feature_dataset import FeatureDataset


def mean_losses(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Compute each head's mean cross-entropy (H,) of logits (H, n, C), images weighted by class."""
    losses = F.cross_entropy(
        logits.flatten(0, 1),
        labels.repeat(len(logits)),
        label_smoothing=label_smoothing,
        reduction="none",
    )
    losses = losses.reshape(len(logits), -1)
    return (losses if class_weights is None else losses * class_weights[labels]).mean(1)


def balanced_weights(train: FeatureDataset, classes: int) -> Tensor:
    """Return the weight (C,) of each class's images by which all classes count the same."""
    seen = train.labels[train.rows]
    weights = torch.zeros(classes, dtype=torch.float64)
    weights[seen] = torch.from_numpy(image_weights(seen, "balanced_accuracy"))
    return weights
