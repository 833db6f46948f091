"""What a fit reports of its weights, and the score that fits are ranked by."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What a fit reports: its best head on the validation split, after `samples` samples.

    Attributes:
        steps: of training, or iterations of a solver.
        train_loss: mean over the steps since the last evaluation.
        head: the index in the bank.
        weight_distance: of the trained layers from where they began, relative to their size.
        prospect: the score half-way back to the start; None where it was not asked for.
    """

    samples: int
    steps: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    score: float
    head: int
    weight_distance: float
    prospect: float | None = None

    @property
    def finite(self) -> bool:
        """Whether both losses are numbers; else the fit has diverged."""
        return math.isfinite(self.train_loss) and math.isfinite(self.val_loss)


def score(accuracy: float, loss: float, n: float) -> float:
    """Compute what fits are ranked by: accuracy first, likelihood second.

    With few validation images (n) many fits tie in accuracy. The second term grows as the mean
    cross-entropy falls but stays under half an image, so it orders ties and never overrules an
    accuracy.
    """
    return accuracy + math.exp(-loss) / (2 * n) if math.isfinite(loss) else -math.inf
