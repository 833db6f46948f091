"""Several optimizers as one, for a loss scaler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class JointOptimizer:
    """Steps all of some optimizers, or none of them where a gradient of any has overflowed.

    It is what `torch.amp.GradScaler` needs of an optimizer. The scaler leaves in `found_inf`, on
    the device, whether a gradient is infinite or not a number. Each optimizer finds that there too,
    and has to pass over the step by itself. So the CPU need not wait for the answer.
    """

    _step_supports_amp_scaling = True
    found_inf: Tensor | None = None

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def set_rates(self, rates: Sequence[float | Tensor]) -> None:
        """Set the learning rate of each group; on the device, for a step that may be recorded."""
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = isinstance(rate, Tensor)

    def step(self) -> None:
        """Step every optimizer."""
        for optimizer in self._optimizers:
            optimizer.found_inf = self.found_inf  # type: ignore[attr-defined]
            optimizer.step()

    def zero_grad(self) -> None:
        """Free all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
