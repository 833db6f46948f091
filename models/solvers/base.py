"""What a solver provides. No file of this package may import torch when it is imported itself.

Recipes are checked against the solvers before torch is there: it takes seconds to import, and a
mistake in a search space is reported at once. So a solver imports what computes in its methods.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from models.classifier import Classifier
    from models.head import HeadBank
    from models.recipe import Recipe
    from models.selection import Selection


class Solver(ABC):
    """A way to find the heads of a fit; subclass `StepSolver` or `DirectSolver`.

    Attributes:
        name: what recipes call it.
        trains: whether it finds anything, or leaves the heads as they start.
        trains_encoder: whether it can train layers of the encoder as well.
        uses_rates: whether `head_lr` plays a part, and `uses_decays` whether `weight_decay` does.
        uses_start: whether its result depends on where the heads start.
        only_start: the one `head_start` that it can begin from; None where any will do.
    """

    name: ClassVar[str]
    trains: ClassVar[bool] = True
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
