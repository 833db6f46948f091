"""What a fit says of its weights: how good they are, and what it chose in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What a fit reports: its best head on the validation split, after `samples` samples."""

    samples: int
    steps: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    score: float
    head: int  # which head of the bank
    weight_distance: float
    prospect: float | None = None  # the score half-way back to the start, where it was asked for

    @property
    def finite(self) -> bool:
        return math.isfinite(self.train_loss) and math.isfinite(self.val_loss)


@dataclass(frozen=True)
class Polish:
    """What was chosen after training, by validation.

    Attributes:
        evaluation: of the chosen weights.
        alpha: 1 for the tuned weights themselves, less for some of the way to them.
        averaged: whether the tuned weights are the averaged ones.
    """

    evaluation: Evaluation
    alpha: float
    averaged: bool


def score(accuracy: float, loss: float, n: int) -> float:
    """Accuracy first, likelihood second: what fits are ranked by.

    With few validation images many fits tie in accuracy. The second term grows as the loss falls
    but stays under half an image, so it orders ties and never overrules an accuracy.
    """
    return accuracy + math.exp(-loss) / (2 * n) if math.isfinite(loss) else -math.inf
