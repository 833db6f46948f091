"""No training at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import DirectSolver

if TYPE_CHECKING:
    from torch import Tensor

    from models.head import HeadBank
    from models.recipe import Recipe


class NoSolver(DirectSolver):
    """Leaves the head as it starts: CLIP's zero-shot classifier."""

    name = "none"
    trains = False
    only_start = "zero_shot"

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Do nothing."""
        return 0
