"""How strong gradients were, layer group by layer group, and clipping by their norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from models.encoder import Encoder
from models.recipe import Recipe

Place = tuple[str, str]  # a layer group's name and a kind: ("block 11", "attn")


class GradientNorms:
    """Clips gradients, and keeps their norms before that.

    Args:
        parameters: the trained parameters, by name.
        places: the layer group and kind of each.
        max_norm: of all gradients together, after clipping.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        places: Mapping[str, Place],
        max_norm: float,
    ) -> None:
        self._parameters = list(parameters.values())
        self._places = [places[name] for name in parameters]
        self._max_norm = max_norm
        self._squares = torch.zeros(len(self._parameters), dtype=torch.float64)
        self._steps = torch.tensor(0)  # that took part

    @torch.no_grad()
    def clip(self) -> None:
        """Scale the gradients down to the allowed norm, as `clip_grad_norm_` does."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if len(gradients) < len(self._parameters):
            raise RuntimeError("a trained parameter got no gradient")
        norms = torch.stack(torch._foreach_norm(gradients))
        total = torch.linalg.vector_norm(norms)
        torch._foreach_mul_(gradients, (self._max_norm / (total + 1e-6)).clamp(max=1.0))
        # A loss scaler that is still finding its scale lets steps overflow, and skips them.
        finite, squares = total.isfinite(), norms.double().square()
        self._squares = self._squares.to(norms.device) + torch.where(finite, squares, 0)
        self._steps = self._steps.to(norms.device) + finite

    def state(self) -> dict[str, torch.Tensor]:
        """What `load` goes on from."""
        return {"squares": self._squares, "steps": self._steps}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        self._squares, self._steps = state["squares"], state["steps"]

    def by_place(self) -> dict[str, dict[str, float]]:
        """Layer group to kind to the root mean square of its gradient's norm over the steps.

        Steps whose gradient was not finite are left out.
        """
        steps = max(1, int(self._steps))
        sums: dict[Place, float] = {}
        for place, square in zip(self._places, self._squares.tolist(), strict=True):
            sums[place] = sums.get(place, 0.0) + square
        found: dict[str, dict[str, float]] = {}
        for (group, kind), square in sums.items():
            found.setdefault(group, {})[kind] = (square / steps) ** 0.5
        return found


def places_of(recipe: Recipe, encoder: Encoder) -> dict[str, Place]:
    """Where everything is that the recipe trains, by its name in a fit."""
    kinds = {
        (i, name): kind
        for i in range(len(encoder.groups))
        for name, kind, _ in encoder.group(i).parameters_by_kind()
    }
    return {
        f"{encoder.group(i).name}/{name}": (encoder.group(i).name, kinds[i, name])
        for i, name in recipe.trained_parameters(encoder)
    }
