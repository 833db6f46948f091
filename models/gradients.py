"""The norms of gradients, by layer group and kind, and clipping by their norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

Place = tuple[str, str]  # a layer group's name and a kind: ("block 11", "attn")


class GradientNorms:
    """Clips gradients to `max_norm` all together, and keeps their norms from before that.

    `places` are the layer group and the kind of each of the trained `parameters`, by the same keys.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], places: Mapping[str, Place], max_norm: float
    ) -> None:
        self._parameters = list(parameters.values())
        self._places = [places[key] for key in parameters]
        self._max_norm = max_norm
        place = self._parameters[0].device if self._parameters else torch.device("cpu")
        # Changed in place: a recorded step adds to the same memory each time.
        self._squares = torch.zeros(len(self._parameters), dtype=torch.float64, device=place)
        self._steps = torch.zeros((), dtype=torch.int64, device=place)  # that took part

    @torch.no_grad()
    def clip(self) -> None:
        """Scale gradients, if any, down to the allowed norm, as `clip_grad_norm_` does.

        Raises:
            RuntimeError: a parameter has no gradient.
        """
        if not self._parameters:
            return
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if len(gradients) < len(self._parameters):
            raise RuntimeError("a trained parameter got no gradient")
        norms = torch.stack(torch._foreach_norm(gradients))
        total = torch.linalg.vector_norm(norms)
        nn.utils.clip_grads_with_norm_(self._parameters, self._max_norm, total)
        # A loss scaler that is still finding its scale lets steps overflow, and skips them.
        finite, squares = total.isfinite(), norms.double().square()
        self._squares += torch.where(finite, squares, 0)
        self._steps += finite

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Collect what `load_state_dict` goes on from."""
        return {"squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from where `state_dict` left off."""
        self._squares.copy_(state["squares"])
        self._steps.copy_(state["steps"])

    def by_place(self) -> dict[str, dict[str, float]]:
        """Compute the root mean square over the steps of each gradient's norm, by group and kind.

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
