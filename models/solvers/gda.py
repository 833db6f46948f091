"""Gaussian discriminant analysis, mixed with the text head: closed form, no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import DirectSolver

if TYPE_CHECKING:
    from torch import Tensor

    from models.head import HeadBank
    from models.recipe import Recipe


class Gda(DirectSolver):
    """The Bayes classifier of Gaussian classes with one covariance, beside CLIP's own.

    Wang et al. 2024 (arXiv:2402.04087). A head's logits are those of the text head plus `gda`
    times the classifier's, whose scale is in nats; `gda: 0` is zero-shot itself.
    """

    name = "gda"
    banked = ("gda",)
    only_start = "zero_shot"
    settings = frozenset(("gda", "class_weights", "top_k", "views"))

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Set every head to the text head plus its share of the classifier."""
        from models.gaussian import gaussian_head
        from models.head import LinearHead
        from models.micro_batches import cpu_on_oom

        text = heads.head(0)
        balanced = recipe.class_weights == "balanced"

        def fitted(x: Tensor, y: Tensor) -> LinearHead:
            return gaussian_head(x, y, len(text.bias), balanced)

        found = cpu_on_oom(fitted, embeddings, labels)
        heads.set_heads(
            [
                LinearHead(
                    text.weight + share * found.weight.to(text.weight),
                    text.bias + share * found.bias.to(text.bias),
                )
                for share in recipe.gda
            ]
        )
        return 1
