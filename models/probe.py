"""The exact linear probe: penalised logistic regression solved by L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.head import LinearHead

MAX_ITERATIONS = 500
GRADIENT_TOLERANCE = 1e-5  # largest entry; scikit-learn's default is 1e-4


def solve_probes(
    embeddings: Tensor,
    labels: Tensor,
    classes: int,
    decays: Sequence[float],
    label_smoothing: float = 0.0,
) -> tuple[list[LinearHead], int]:
    """Minimise mean cross-entropy + decay / 2 |W|^2 for every decay, in their order.

    L-BFGS with a strong Wolfe line search (Liu & Nocedal 1989), in float64. The
    problem is convex, so it has one solution; with no decay and separable classes it has none,
    and the head is where `MAX_ITERATIONS` ended. Each solution is where the next weaker decay
    starts, which costs a fraction of starting anew.

    Args:
        embeddings: (n, d).
        labels: (n,) class ids.
        decays: strengths of the penalty; the bias has none.

    Returns:
        A head for each decay, in the embeddings' type, and the iterations of all together.
    """
    x = embeddings.double()
    weight = x.new_zeros(classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(classes, requires_grad=True)
    solved: dict[float, LinearHead] = {}
    iterations = 0
    for decay in sorted(set(decays), reverse=True):
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=GRADIENT_TOLERANCE,
            tolerance_change=0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def loss(optimizer: torch.optim.LBFGS = optimizer, decay: float = decay) -> Tensor:
            optimizer.zero_grad()
            logits = torch.addmm(bias, x, weight.T)
            fitted = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
            objective = fitted + 0.5 * decay * weight.square().sum()
            torch.autograd.backward(objective)
            return objective

        optimizer.step(loss)
        iterations += optimizer.state[weight]["n_iter"]
        found = (p.detach().to(embeddings.dtype).clone() for p in (weight, bias))
        solved[decay] = LinearHead(*found)
    return [solved[decay] for decay in decays], iterations
