"""The exact probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import DirectSolver

if TYPE_CHECKING:
    from torch import Tensor

    from models.head import HeadBank
    from models.recipe import Recipe


class Lbfgs(DirectSolver):
    """A head for every anchor and weight decay, at the minimum; see `models.logistic_regression`.

    Where it has an anchor, the heads begin as the text head.
    """

    name = "lbfgs"
    banked = ("anchor", "weight_decay")
    settings = frozenset(
        ("anchor", "weight_decay", "label_smoothing", "class_weights", "top_k", "views")
    )

    def start(self, recipe: Recipe) -> str:
        """Return zero_shot if a head is pulled to the text head."""
        return "zero_shot" if any(recipe.anchor) else "zeros"

    def solve(self, recipe: Recipe, embeddings: Tensor, labels: Tensor, heads: HeadBank) -> int:
        """Minimise the loss for every head, on the CPU where the device has no memory for it."""
        import torch

        from metrics import image_weights
        from models.head import LinearHead
        from models.logistic_regression import solve_probes
        from models.micro_batches import cpu_on_oom

        text = heads.head(0)

        def solve(x: Tensor, y: Tensor) -> tuple[list[LinearHead], int]:
            found: list[LinearHead] = []
            weights = None
            if recipe.class_weights == "balanced":
                each = image_weights(y.cpu().numpy(), "balanced_accuracy")
                weights = torch.from_numpy(each).to(x.device)
            total = 0
            for scale in recipe.anchor:
                anchor = LinearHead(scale * text.weight, scale * text.bias) if scale else None
                solved, iterations = solve_probes(
                    *(x, y, len(text.bias)),
                    decays=recipe.weight_decay,
                    label_smoothing=recipe.label_smoothing,
                    anchor=anchor,
                    weights=weights,
                )
                found += solved
                total += iterations
            return found, total

        solved, iterations = cpu_on_oom(solve, embeddings, labels)
        heads.set_heads(solved)
        return iterations
