"""Training in steps, by AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.solvers.base import StepSolver

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from models.classifier import Classifier
    from models.selection import Selection


class AdamW(StepSolver):
    """AdamW with a rate and a decay for each head, and layer-wise rates in the encoder."""

    name = "adamw"

    def optimizers(self, selection: Selection, model: Classifier) -> list[Optimizer]:
        """Make one for the heads, and one for the trained layers if there are any."""
        import torch

        from models.head import BankAdamW

        recipe = selection.recipe
        settings = [(head["head_lr"], head["weight_decay"]) for head in recipe.bank]
        heads = BankAdamW(model.head, settings)
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
        for p in selection.parameters:
            decay = recipe.weight_decay[0] if p.decays else 0.0
            trained = [model.trained[key] for key in p.keys]
            grouped.setdefault((p.lr_scale * recipe.lr, decay), []).extend(trained)
        groups = [
            {"params": parameters, "peak_lr": peak, "weight_decay": decay}
            for (peak, decay), parameters in grouped.items()
        ]
        return [heads, torch.optim.AdamW(groups, fused=True)] if groups else [heads]
