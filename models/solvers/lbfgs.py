"""The exact probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import DirectSolver

if TYPE_CHECKING:
    from torch import Tensor

    from models.head import HeadBank, LinearHead
    from models.recipe import Recipe


class Lbfgs(DirectSolver):
    """A head for every weight decay, at the minimum; see `models.logistic_regression`."""

    name = "lbfgs"
    uses_start = False

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Minimise the loss for every decay, on the CPU where the device has no memory for it."""
        from models.logistic_regression import solve_probes
        from models.micro_batches import cpu_on_oom

        def solve(x: Tensor, y: Tensor) -> tuple[list[LinearHead], int]:
            classes = heads.bias.shape[1]
            return solve_probes(x, y, classes, recipe.weight_decay, recipe.label_smoothing)

        solved, iterations = cpu_on_oom(solve, embeddings, labels)
        heads.set_heads(solved)
        return iterations
