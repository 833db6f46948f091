"""What a training step does once it has its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.gradients import GradientNorms
from models.head import BankAdamW
from models.joint_optimizer import JointOptimizer
from models.pull import PullToStart


class Update:
    """Changes all that is trained by its gradients, which it clips, and pulls it to its start."""

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: torch.amp.GradScaler,
        gradients: GradientNorms,
        pull: PullToStart,
    ) -> None:
        self.scaler = scaler
        self._optimizers, self._joint = optimizers, JointOptimizer(optimizers)
        self._gradients, self._pull = gradients, pull

    @property
    def recordable(self) -> bool:
        """Whether a step follows from the gradients and its numbers alone, on the device."""
        known = (BankAdamW, torch.optim.AdamW)
        return not self.scaler.is_enabled() and all(type(o) in known for o in self._optimizers)

    def numbers(self, share: float) -> list[float]:
        """Compute the numbers of a step whose rates are a `share` of their peaks.

        They are the rate of each group, and how far each weight is pulled.
        """
        groups = self._joint.param_groups
        rates = [share * group["peak_lr"] for group in groups]
        return rates + self._pull.shares(groups, rates)

    def __call__(self, numbers: Sequence[float | Tensor]) -> None:
        """Do a step with its numbers; frees the gradients, as evaluations need their memory."""
        groups = self._joint.param_groups
        self._joint.set_rates(numbers[: len(groups)])
        self.scaler.unscale_(self._joint)  # type: ignore[arg-type]
        self._gradients.clip()
        self._pull.pull(groups, numbers[len(groups) :])
        self.scaler.step(self._joint)  # type: ignore[arg-type]
        self._joint.zero_grad()
        self.scaler.update()

    def zero_grad(self) -> None:
        """Free all gradients."""
        self._joint.zero_grad()

    def scaled(self, loss: Tensor) -> Tensor:
        """Scale a loss up, where its gradients would be too small for half precision."""
        return self.scaler.scale(loss)

    def state_dict(self) -> dict[str, Any]:
        """Collect what `load_state_dict` goes on from."""
        return {
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scaler": self.scaler.state_dict(),
            "gradients": self._gradients.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` left off."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
        self._gradients.load_state_dict(state["gradients"])
