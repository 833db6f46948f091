"""The exact linear probe: logistic regression, pulled to a given head, solved by L-BFGS."""

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
    anchor: LinearHead | None = None,
    weights: Tensor | None = None,
) -> tuple[list[LinearHead], int]:
    """Minimise mean cross-entropy + decay / 2 |W - W_0|^2 for every decay in `decays`.

    With `weights` (n,), of mean 1, each image's cross-entropy counts so much.

    Without an anchor W_0 is zero, and the bias is free. With one, the bias is pulled to the
    anchor's as well, so that the strongest decay gives the anchor itself.

    L-BFGS with a strong Wolfe line search (Liu & Nocedal 1989), in float64. It is here because
    scikit-learn's takes one penalty at a time, pulls to zero alone and runs on no GPU. The problem
    is convex, so it has one solution; with no decay and separable classes it has none, and the head
    is where `MAX_ITERATIONS` ended. Each solution is where the next weaker decay starts, which
    costs a fraction of starting anew. It is found in coordinates in which the curvature there is
    near the identity (`_curvature`): embeddings are so correlated that their own take up to ten
    times the iterations.

    Returns:
        A head for each decay, in the embeddings' type, and the iterations of all together.
    """
    x = F.pad(embeddings.double(), (0, 1), value=1.0)  # the bias is one weight more
    target = F.one_hot(labels, classes).to(x) * (1 - label_smoothing) + label_smoothing / classes
    counts = x.new_ones(len(x), 1) if weights is None else weights.to(x)[:, None]
    centre = x.new_zeros(classes, x.shape[1])
    penalised = torch.ones_like(centre[0])
    if anchor is None:
        penalised[-1] = 0
    else:
        centre = torch.cat([anchor.weight, anchor.bias[:, None]], dim=1).to(x)
    moved, offset = torch.zeros_like(centre), x @ centre.T
    solved: dict[float, LinearHead] = {}
    iterations = 0
    for decay in sorted(set(decays), reverse=True):
        moved, steps = _solve(x, target, counts, moved, decay * penalised, offset)
        iterations += steps
        head = (centre + moved).to(embeddings.dtype)
        solved[decay] = LinearHead(head[:, :-1].clone(), head[:, -1].clone())
    return [solved[decay] for decay in decays], iterations


@torch.no_grad()
def _solve(
    x: Tensor, target: Tensor, counts: Tensor, start: Tensor, penalty: Tensor, offset: Tensor
) -> tuple[Tensor, int]:
    """Minimise over what is added to logits `offset` (n, C), from `start`; images have `counts`.

    Returns:
        The weight (C, d + 1) that is added, and the iterations that it took.
    """
    curvature = _curvature(x, x @ start.T + offset, counts, penalty)
    # curvature = root root^T; all is NaN from here on where an embedding is.
    root: Tensor = torch.linalg.cholesky_ex(curvature)[0]
    inverse: Tensor = torch.linalg.solve_triangular(
        root, torch.eye(len(root)).to(root), upper=False
    )
    whitened = x @ inverse.T
    solution: Tensor = start @ root  # weight = solution inverse
    optimizer = torch.optim.LBFGS(
        [solution],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE / float(curvature.diagonal().max().sqrt()),
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        log_p = F.log_softmax(whitened @ solution.T + offset, dim=1)
        weight = solution @ inverse
        shrunk = weight * penalty
        # By hand: half the time of autograd's.
        slope = counts * (log_p.exp() - target)
        solution.grad = slope.T @ whitened / len(x) + shrunk @ inverse.T
        return 0.5 * (weight * shrunk).sum() - (counts * target * log_p).sum() / len(x)

    optimizer.step(loss)
    return solution @ inverse, int(optimizer.state[solution]["n_iter"])


def _curvature(x: Tensor, logits: Tensor, counts: Tensor, penalty: Tensor) -> Tensor:
    """The objective's second derivative (d, d) at `logits` (n, C), in the mean over the classes.

    For class c it is X^T diag(counts p_c (1 - p_c)) X / n + penalty; terms between classes are
    left out.
    """
    p = torch.softmax(logits, dim=1)
    confusion = counts * (p * (1 - p)).mean(dim=1, keepdim=True)
    curvature = (x * confusion).T @ x / len(x)
    curvature.diagonal().add_(penalty + RIDGE * curvature.diagonal().mean())
    return curvature
