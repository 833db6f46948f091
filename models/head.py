"""Linear heads: one, or a bank of them trained at once on the same features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.AdamW's own


@dataclass(frozen=True)
class LinearHead:
    """One linear classifier: weight (C, d) and bias (C,)."""

    weight: Tensor
    bias: Tensor


class HeadBank(nn.Module):
    """H linear classifiers over one embedding, as one batched layer; they start at zero."""

    def __init__(self, heads: int, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, classes, dim))
        self.bias = nn.Parameter(torch.zeros(heads, classes))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map embeddings (n, d) to logits (H, n, C)."""
        heads, classes, dim = self.weight.shape
        flat = embeddings @ self.weight.reshape(heads * classes, dim).T + self.bias.flatten()
        return flat.reshape(len(embeddings), heads, classes).transpose(0, 1)

    def logits(self, embeddings: Tensor, head: int) -> Tensor:
        """Map embeddings (n, d) to the logits (n, C) of one head."""
        return F.linear(embeddings, self.weight[head], self.bias[head])

    @torch.no_grad()
    def set_heads(self, heads: Sequence[LinearHead]) -> None:
        """Set every head of the bank to its own of `heads`."""
        self.weight.copy_(torch.stack([head.weight for head in heads]))
        self.bias.copy_(torch.stack([head.bias for head in heads]))

    def head(self, index: int) -> LinearHead:
        """Copy one head."""
        return LinearHead(self.weight[index].detach().clone(), self.bias[index].detach().clone())


class BankAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with a rate and a decay for each head.

    The same update as `torch.optim.AdamW` run H times over. It is written by hand because torch
    has one rate for each parameter group, which would take the bank apart. Decay applies to the
    weight and not to the bias. The one parameter group has an `lr` that is a share of every head's
    peak, 1 at first; `settings` are the (peak learning rate, weight decay) of each head.
    """

    def __init__(self, bank: HeadBank, settings: Sequence[tuple[float, float]]) -> None:
        super().__init__(bank.parameters(), {"lr": 1.0, "peak_lr": 1.0})
        rates, decays = zip(*settings, strict=True)
        self._rates = bank.weight.new_tensor(rates)
        self._decays = bank.weight.new_tensor(decays)
        self._log_betas = bank.weight.new_tensor([math.log(BETA_1), math.log(BETA_2)])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every head once; `closure` is not used.

        Nothing changes where a loss scaler has set `found_inf`, which only the device reads.
        """
        overflowed: Tensor | None = getattr(self, "found_inf", None)
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = parameter.new_zeros(())
                state["first"] = torch.zeros_like(parameter)
                state["second"] = torch.zeros_like(parameter)
            state["step"] = state["step"].to(parameter)  # torch loads it to the CPU
            changed = (parameter, *state.values())
            before = [] if overflowed is None else [tensor.clone() for tensor in changed]
            self._update(parameter, **state)
            for tensor, was in zip(changed, before, strict=False):
                assert overflowed is not None
                tensor.copy_(torch.where(overflowed > 0, was, tensor))

    def _update(self, parameter: Tensor, step: Tensor, first: Tensor, second: Tensor) -> None:
        assert parameter.grad is not None
        a_head = (-1, *[1] * (parameter.ndim - 1))
        rates = (self.param_groups[0]["lr"] * self._rates).reshape(a_head)
        if parameter.ndim == 3:
            parameter.mul_(1 - rates * self._decays.reshape(a_head))
        first.lerp_(parameter.grad, 1 - BETA_1)
        second.mul_(BETA_2).addcmul_(parameter.grad, parameter.grad, value=1 - BETA_2)
        step += 1
        # 1 - beta^step, on the device: a number here would have the CPU wait for it.
        correction_1, correction_2 = -torch.expm1(step * self._log_betas)
        spread = (second / correction_2).sqrt_().add_(EPSILON)
        parameter.sub_(rates / correction_1 * first / spread)
