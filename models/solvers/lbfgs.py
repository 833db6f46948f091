"""The exact linear probe: penalised logistic regression, solved by L-BFGS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import DirectSolver

if TYPE_CHECKING:
    from torch import Tensor

    from models.head import HeadBank
    from models.recipe import Recipe


class Lbfgs(DirectSolver):
    """A head for every weight decay, at the minimum; see `models.logistic_regression`."""

    name = "lbfgs"
    uses_start = False

    def heads(self, recipe: Recipe) -> tuple[tuple[float, float], ...]:
        """List the decays; the rate, which a solver does not have, is the first one named."""
        return tuple((recipe.head_lr[0], decay) for decay in recipe.weight_decay)

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Minimise the loss for every decay, on the CPU where the device has no memory for it."""
        from models.logistic_regression import solve_probes
        from models.micro_batches import cpu_on_oom

        decays, classes = [decay for _, decay in recipe.bank], heads.bias.shape[1]
        solved, iterations = cpu_on_oom(
            lambda x, y: solve_probes(x, y, classes, decays, recipe.label_smoothing),
            embeddings,
            labels,
        )
        heads.set_heads(solved)
        return iterations
