"""The linear classifier of Gaussian classes that share one covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from models.head import LinearHead


def gaussian_head(
    embeddings: Tensor, labels: Tensor, classes: int, balanced: bool = False
) -> LinearHead:
    """Fit a Gaussian to each class, with one covariance, and return their Bayes classifier.

    Embeddings are compared at unit length, as CLIP compares them. The precision is the empirical
    Bayes ridge estimator (Kubokawa & Srivastava 2008), d ((n - 1) S + tr(S) I)^-1 for the
    covariance S within classes, which exists for any number of images. Classes are as likely as
    they are frequent; one without an image is never predicted by it.

    Args:
        embeddings: (n, d).
        labels: (n,), from 0 to `classes` - 1.
        classes: number of classes, C.
        balanced: whether all classes that have images are as likely, however frequent they are.

    Returns:
        A head over the embeddings as they are, in their type: log posteriors but for a constant.
    """
    x = embeddings.double()
    length = x.norm(dim=1).mean()  # all embeddings have one, sqrt(d)
    x = x / length
    counts = torch.bincount(labels, minlength=classes).double()
    means = torch.zeros(classes, x.shape[1]).to(x).index_add_(0, labels, x)
    means /= counts.clamp(min=1)[:, None]
    within = x - means[labels]
    n, dim = x.shape
    if n == len(counts.nonzero()):  # one image a class: only the spread of the classes is known
        within = x - x.mean(dim=0)
    scatter = within.T @ within
    ridge = scatter.diagonal().sum() / max(n - 1, 1)
    precision = dim * torch.linalg.pinv(scatter + ridge * torch.eye(dim).to(x), hermitian=True)
    weight = means @ precision
    share = (counts > 0) / (counts > 0).sum() if balanced else counts / n
    prior = torch.log(share).clamp(min=-1e4)
    bias = prior - 0.5 * (weight * means).sum(dim=1)
    return LinearHead((weight / length).to(embeddings), bias.to(embeddings))
