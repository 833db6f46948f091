"""The exact linear probe: logistic regression, pulled to a given head, solved by L-BFGS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.head import LinearHead

MAX_ITERATIONS = 500
GRADIENT_TOLERANCE = 1e-5  # largest entry, about; scikit-learn's default is 1e-4
BLOCK = 1 << 24  # numbers in float64 (128 MiB): of embeddings, or of logits
SURE_CHANGE = 1e-9  # of the loss: less, float32 does not see
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

    L-BFGS with a strong Wolfe line search (Liu & Nocedal 1989). It is here because scikit-learn's
    takes one penalty at a time, pulls to zero alone and runs on no GPU. It ends in float64; where
    the images take more than one block, it goes as far as it can in float32 first. The problem
    is convex, so it has one solution; with no decay and separable classes it has none, and the head
    is where `MAX_ITERATIONS` ended. Each solution is where the next weaker decay starts, which
    costs a fraction of starting anew. It is found in coordinates in which the curvature there is
    near the identity: embeddings are so correlated that their own take up to ten times the
    iterations.

    Returns:
        A head for each decay, in the embeddings' type, and the iterations of all together.
    """
    images = _Images(embeddings, labels, classes, label_smoothing, weights)
    centre = embeddings.new_zeros((classes, embeddings.shape[1] + 1), dtype=torch.float64)
    penalised = torch.ones_like(centre[0])
    if anchor is None:
        penalised[-1] = 0
    else:
        centre = torch.cat([anchor.weight, anchor.bias[:, None]], dim=1).to(centre)
    moved = torch.zeros_like(centre)
    solved: dict[float, LinearHead] = {}
    iterations = 0
    for decay in sorted(set(decays), reverse=True):
        moved, steps = _solve(images, centre, moved, decay * penalised)
        iterations += steps
        head = (centre + moved).to(embeddings.dtype)
        solved[decay] = LinearHead(head[:, :-1].clone(), head[:, -1].clone())
    return [solved[decay] for decay in decays], iterations


class _Images:
    """The embeddings with a 1 for the bias, in `dtype`, and the loss of a head on them.

    They are gone through in blocks of `BLOCK` numbers, as memory may not hold all in float64, nor
    images x classes. What is one block is made once.

    Attributes:
        dtypes: the types to solve in, one after another.
    """

    def __init__(
        self,
        embeddings: Tensor,
        labels: Tensor,
        classes: int,
        smoothing: float,
        weights: Tensor | None,
    ) -> None:
        self._embeddings, self._labels, self._weights = embeddings, labels, weights
        self._sharp, self._spread = 1 - smoothing, smoothing / classes
        self._rows = max(1, BLOCK // max(classes, embeddings.shape[1]))
        self.dtype: torch.dtype = torch.float64
        self.dtypes: tuple[torch.dtype, ...] = (torch.float64,)
        self._only = self._block(slice(None)) if len(labels) <= self._rows else None
        if self._only is None and embeddings.dtype != torch.float64:
            self.dtypes = (torch.float32, torch.float64)

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        if self._only:
            yield self._only
            return
        for begin in range(0, len(self._labels), self._rows):
            yield self._block(slice(begin, begin + self._rows))

    def _block(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return x (n, d + 1), labels (1, n), and how much each image counts (1, n), over all n."""
        x = F.pad(self._embeddings[rows].to(self.dtype), (0, 1), value=1.0)
        counts = x.new_ones(len(x)) if self._weights is None else self._weights[rows].to(x)
        return x, self._labels[None, rows], counts[None] / len(self._labels)

    def loss(self, head: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of a head (C, d + 1), and its gradient (C, d + 1)."""
        total, gradient = head.new_zeros(()), torch.zeros_like(head)
        weight = head.to(self.dtype)
        for x, labels, counts in self._blocks():
            # Images are the last dimension: with few classes a softmax over that takes longer.
            log_p = F.log_softmax(weight @ x.T, dim=0)
            fitted = self._sharp * log_p.gather(0, labels)
            if self._spread:
                fitted += self._spread * log_p.sum(0, keepdim=True)
            total -= (counts * fitted).sum(dtype=total.dtype)
            # By hand: half the time of autograd's.
            slope = log_p.exp_().sub_(self._spread)
            slope.scatter_add_(0, labels, torch.full_like(counts, -self._sharp)).mul_(counts)
            gradient += slope @ x
        return total, gradient

    def curvature(self, head: Tensor, penalty: Tensor) -> Tensor:
        """Return the loss's second derivative (d + 1, d + 1) at a head, the mean over its classes.

        For class c it is X^T diag(counts p_c (1 - p_c)) X / n + penalty; terms between classes are
        left out.
        """
        found = head.new_zeros((head.shape[1],) * 2)
        for x, _, counts in self._blocks():
            p = torch.softmax(head @ x.T, dim=0)
            confusion = counts * (p * (1 - p)).mean(dim=0)
            found.addmm_(x.T * confusion, x)
        found.diagonal().add_(penalty + RIDGE * found.diagonal().mean())
        return found


@torch.no_grad()
def _solve(images: _Images, centre: Tensor, start: Tensor, penalty: Tensor) -> tuple[Tensor, int]:
    """Minimise over what is added to the head `centre` (C, d + 1), from `start`.

    Returns:
        The weight (C, d + 1) that is added, and the iterations that it took.
    """
    images.dtype = torch.float64
    curvature = images.curvature(centre + start, penalty)
    # curvature = root root^T; all is NaN from here on where an embedding is.
    root: Tensor = torch.linalg.cholesky_ex(curvature)[0]
    inverse: Tensor = torch.linalg.solve_triangular(
        root, torch.eye(len(root)).to(root), upper=False
    )
    solution: Tensor = start @ root  # weight = solution inverse
    optimizer = torch.optim.LBFGS(
        [solution],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=GRADIENT_TOLERANCE / float(curvature.diagonal().max().sqrt()),
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        weight = solution @ inverse
        shrunk = weight * penalty
        fitted, gradient = images.loss(centre + weight)
        solution.grad = (gradient + shrunk) @ inverse.T
        return 0.5 * (weight * shrunk).sum() + fitted

    state, settings = optimizer.state[solution], optimizer.param_groups[0]
    for dtype in images.dtypes:
        images.dtype = dtype
        settings["tolerance_change"] = SURE_CHANGE if dtype == torch.float32 else 0
        settings["max_iter"] = MAX_ITERATIONS - state.get("n_iter", 0)
        optimizer.step(loss)
    return solution @ inverse, int(state["n_iter"])
