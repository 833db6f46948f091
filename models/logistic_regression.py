"""The exact linear probe: penalised logistic regression solved by L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.head import LinearHead

MAX_ITERATIONS = 500
GRADIENT_TOLERANCE = 1e-5  # largest entry, about; scikit-learn's default is 1e-4
RIDGE = 1e-6  # of the mean curvature: keeps the factorisation from failing, solves the same


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
    starts, which costs a fraction of starting anew, and is solved for in coordinates in which the
    curvature there is near the identity (`_curvature`): embeddings are so correlated that the
    same takes up to ten times the iterations in their own.

    Args:
        embeddings: (n, d).
        labels: (n,) class ids.
        decays: strengths of the penalty; the bias has none.

    Returns:
        A head for each decay, in the embeddings' type, and the iterations of all together.
    """
    x = F.pad(embeddings.double(), (0, 1), value=1.0)  # the bias is one weight more
    target = F.one_hot(labels, classes).to(x) * (1 - label_smoothing) + label_smoothing / classes
    weight = x.new_zeros(classes, x.shape[1])
    penalised = torch.ones_like(weight[0])
    penalised[-1] = 0
    solved: dict[float, LinearHead] = {}
    iterations = 0
    for decay in sorted(set(decays), reverse=True):
        penalty = decay * penalised
        curvature = _curvature(x, weight, penalty)
        # curvature = root root^T; not a number, as all that follows, where an embedding is none.
        root, _ = torch.linalg.cholesky_ex(curvature)
        inverse = torch.linalg.solve_triangular(root, torch.eye(len(root)).to(root), upper=False)
        whitened = x @ inverse.T
        solution = weight @ root  # weight = solution inverse
        optimizer = torch.optim.LBFGS(
            [solution],
            max_iter=MAX_ITERATIONS,
            tolerance_grad=GRADIENT_TOLERANCE / float(curvature.diagonal().max().sqrt()),
            tolerance_change=0,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def loss(
            whitened: Tensor = whitened,
            solution: Tensor = solution,
            inverse: Tensor = inverse,
            penalty: Tensor = penalty,
        ) -> Tensor:
            log_p = F.log_softmax(whitened @ solution.T, dim=1)
            weight = solution @ inverse
            shrunk = weight * penalty
            # By hand: half the time of autograd's.
            solution.grad = (log_p.exp() - target).T @ whitened / len(x) + shrunk @ inverse.T
            return 0.5 * (weight * shrunk).sum() - (target * log_p).sum() / len(x)

        with torch.no_grad():
            optimizer.step(loss)
        iterations += optimizer.state[solution]["n_iter"]
        weight = solution @ inverse
        head = weight.to(embeddings.dtype)
        solved[decay] = LinearHead(head[:, :-1].clone(), head[:, -1].clone())
    return [solved[decay] for decay in decays], iterations


def _curvature(x: Tensor, weight: Tensor, penalty: Tensor) -> Tensor:
    """The objective's second derivative (d, d) at `weight`, in the mean over the classes.

    Of class c it is X^T diag(p_c (1 - p_c)) X / n + penalty; what couples classes is left out.
    """
    p = torch.softmax(x @ weight.T, dim=1)
    confusion = (p * (1 - p)).mean(dim=1, keepdim=True)
    curvature = (x * confusion).T @ x / len(x)
    curvature.diagonal().add_(penalty + RIDGE * curvature.diagonal().mean())
    return curvature
