"""QuickGELU, the activation of OpenAI's CLIP, with a backward pass of one operation."""

from __future__ import annotations

from typing import Any

import timm.layers
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

SLOPE = 1.702


class LeanQuickGELU(QuickGELU):  # type: ignore[misc]
    """x sigmoid(1.702 x), as silu(1.702 x) / 1.702 where it is trained through.

    Torch keeps x and the sigmoid for the backward pass, and computes five times with them; here it
    keeps one tensor and computes once. Without gradients it is open_clip's own, to the bit, as
    features on disk are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each number; the shape stays."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            plain: Tensor = super().forward(x)
            return plain
        found: Tensor = _Lean.apply(x)
        return found


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scaled = SLOPE * x
        ctx.save_for_backward(scaled)
        return F.silu(scaled).div_(SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (scaled,) = ctx.saved_tensors
        # The factor of the argument and that of the result cancel.
        gradient: Tensor = torch.ops.aten.silu_backward(gradients[0], scaled)
        return gradient


def make_lean(tower: nn.Module) -> None:
    """Put it in the place of open_clip's and timm's own QuickGELU."""
    for module in tower.modules():
        for name, child in module.named_children():
            if type(child) in (QuickGELU, timm.layers.QuickGELU):
                setattr(module, name, LeanQuickGELU())
