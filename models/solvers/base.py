"""What a solver provides. No file of this package may import torch when it is imported itself.

Recipes are checked against the solvers before torch is there: it takes seconds to import, and a
mistake in a search space is reported at once. So a solver imports what computes in its methods.
"""

from __future__ import annotations

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
        banked: the settings that each head has one value of. A recipe may hold several values of
            each; there is one head for every combination.
        only_start: the one `head_start` that it can begin from; None where any will do.
        settings: those of a recipe that change what it finds.
    """

    name: ClassVar[str]
    trains: ClassVar[bool] = True
    trains_encoder: ClassVar[bool] = False
    banked: ClassVar[tuple[str, ...]] = ()
    only_start: ClassVar[str | None] = None
    settings: ClassVar[frozenset[str]] = frozenset()

    def start(self, recipe: Recipe) -> str:
        """Return the head that it needs to begin from: probe, zero_shot, or zeros for none."""
        return recipe.head_start


class StepSolver(Solver):
    """A solver that trains in steps, over the horizon, by the gradients of batches."""

    trains_encoder = True
    banked = ("head_lr", "weight_decay")
    settings = frozenset(
        (
            *("kinds", "lr", "llrd_decay", "lora_rank", "lora_alpha", "head_lr", "weight_decay"),
            *("pull_to_start", "warmup", "label_smoothing", "class_weights", "batch_size"),
            *("head_start", "views"),
        )
    )

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
        """Set `heads` to the solution for embeddings (n, d); returns the number of iterations.

        Each of `heads` is at the start when this is called.
        """
