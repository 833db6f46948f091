"""The pull of weights to where they began (L2-SP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class PullToStart:
    """Draws all that is trained towards its start, heads included.

    Li, Grandvalet & Davoine 2018 (arXiv:1802.01483). It is a step down the gradient of
    strength / 2 |w - w_0|^2 at the weight's learning rate, beside the adaptive step as AdamW's
    decay is. In the loss, Adam would scale it up where the loss has no gradient, and weights that
    nothing asks to move would swing about their start.

    Args:
        starts: where each weight began, on its device, and its rate's factor beside its group's.
        strength: `pull_to_start` of the recipe.
    """

    def __init__(
        self, starts: Mapping[nn.Parameter, tuple[Tensor, float]], strength: float
    ) -> None:
        self._starts, self._strength = starts, strength

    def shares(self, groups: Sequence[dict[str, Any]], rates: Sequence[float]) -> list[float]:
        """Return the share of its way to the start that each weight of the groups goes."""
        if not self._starts:
            return []
        return [
            min(1.0, rate * self._starts[parameter][1] * self._strength)
            for group, rate in zip(groups, rates, strict=True)
            for parameter in group["params"]
        ]

    @torch.no_grad()
    def pull(self, groups: Sequence[dict[str, Any]], shares: Sequence[float | Tensor]) -> None:
        """Draw each weight of the groups by its share."""
        if not self._starts:
            return
        parameters = [parameter for group in groups for parameter in group["params"]]
        for parameter, share in zip(parameters, shares, strict=True):
            parameter.lerp_(self._starts[parameter][0], share)
