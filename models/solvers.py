"""The ways to find the heads of a fit, by the names that recipes give them: `SOLVERS`.

Recipes are checked against the solvers before torch is there: it takes seconds to import, and a
mistake in a search space is reported at once. So a solver imports what computes in its methods.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from models.classifier import Classifier
    from models.head import HeadBank, LinearHead
    from models.recipe import Recipe
    from models.selection import Selection


class Solver(ABC):
    """A way to find the heads of a fit; subclass `StepSolver` or `DirectSolver`.

    Attributes:
        name: what recipes call it.
        trains_encoder: whether it can train layers of the encoder as well.
        uses_rates: whether `head_lr` plays a part, and `uses_decays` whether `weight_decay` does.
        uses_start: whether its result depends on where the heads start.
        only_start: the one `head_start` that it can begin from; None where any will do.
    """

    name: ClassVar[str]
    trains_encoder: ClassVar[bool] = False
    uses_rates: ClassVar[bool] = False
    uses_decays: ClassVar[bool] = True
    uses_start: ClassVar[bool] = True
    only_start: ClassVar[str | None] = None

    def heads(self, recipe: Recipe) -> tuple[tuple[float, float], ...]:
        """List the (head_lr, weight_decay) of every head: all pairs of what plays a part."""
        rates = recipe.head_lr if self.uses_rates else recipe.head_lr[:1]
        decays = recipe.weight_decay if self.uses_decays else recipe.weight_decay[:1]
        return tuple(itertools.product(rates, decays))


class StepSolver(Solver):
    """A solver that trains in steps, over the horizon, by the gradients of batches."""

    trains_encoder = uses_rates = True

    @abstractmethod
    def optimizers(self, selection: Selection, model: Classifier) -> list[Optimizer]:
        """Make the optimizers of the heads and of `model.trained`.

        Each parameter group has a `peak_lr`: before each step its `lr` is set to a share of that,
        which follows from the warm-up and the cosine.
        """


class DirectSolver(Solver):
    """A solver that finds the heads at once, from all embeddings of the training images."""

    @abstractmethod
    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Set `heads` to the solution for embeddings (n, d); returns the number of iterations."""


class AdamW(StepSolver):
    """AdamW with a rate and a decay for each head, and layer-wise rates in the encoder."""

    name = "adamw"

    def optimizers(self, selection: Selection, model: Classifier) -> list[Optimizer]:
        """Make one for the heads, and one for the trained layers if there are any."""
        import torch

        from models.head import BankAdamW

        recipe = selection.recipe
        heads = BankAdamW(model.head, recipe.bank)
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
        for p in selection.parameters:
            decay = recipe.weight_decay[0] if p.decays else 0.0
            grouped.setdefault((p.lr_scale * recipe.lr, decay), []).append(model.trained[p.key])
        groups = [
            {"params": parameters, "peak_lr": peak, "weight_decay": decay}
            for (peak, decay), parameters in grouped.items()
        ]
        return [heads, torch.optim.AdamW(groups, fused=True)] if groups else [heads]


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


class NoSolver(DirectSolver):
    """Leaves the head as it starts: CLIP's zero-shot classifier."""

    name = "none"
    uses_decays = False
    only_start = "zero_shot"

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Do nothing."""
        return 0


SOLVERS: dict[str, Solver] = {solver.name: solver for solver in (AdamW(), Lbfgs(), NoSolver())}
