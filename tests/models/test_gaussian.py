"""The classifier of Gaussian classes, against numpy by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.gaussian import gaussian_head
from models.head import HeadBank, LinearHead
from models.recipe import Recipe
from models.solvers import SOLVERS, DirectSolver

CLASSES, DIM = 3, 5


def examples(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings of length sqrt(d), in float64, and a label of each; every class has some."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    x = torch.randn(n, DIM, generator=generator, dtype=torch.float64)
    x += 2 * torch.nn.functional.one_hot(labels, DIM)
    return DIM**0.5 * x / x.norm(dim=1, keepdim=True), labels


def log_posterior(x: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of every x, by the densities of Gaussians at unit length, with the shrunk covariance."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([x[y == c].mean(0) for c in range(CLASSES)])
    centred = x - means[y]
    covariance = np.cov(centred.T)
    n = len(x)
    precision = DIM * np.linalg.inv((n - 1) * covariance + np.trace(covariance) * np.eye(DIM))
    densities = np.stack(
        [-0.5 * np.einsum("nd,de,ne->n", x - m, precision, x - m) for m in means], axis=1
    )
    densities += np.log(np.bincount(y) / n)
    return densities - np.log(np.exp(densities).sum(1, keepdims=True))


@pytest.mark.parametrize("n", [4, 7, 40])
def test_it_is_the_bayes_classifier(n: int) -> None:
    x, y = examples(n)
    head = gaussian_head(x, y, CLASSES)
    found = torch.log_softmax(x @ head.weight.T + head.bias, dim=1)
    assert found.numpy() == pytest.approx(log_posterior(x.numpy(), y.numpy()), abs=1e-9)


def test_one_image_a_class_is_its_nearest_mean() -> None:
    x, y = examples(CLASSES)
    head = gaussian_head(x, y, CLASSES)
    assert torch.isfinite(head.weight).all()
    assert (x @ head.weight.T + head.bias).argmax(1).tolist() == y.tolist()


def test_balanced_classes_are_as_likely_as_each_other() -> None:
    x, y = examples(40)
    y[y == 2] = 1  # twice as many
    plain, balanced = (gaussian_head(x, y, 2, balanced) for balanced in (False, True))
    assert torch.equal(plain.weight, balanced.weight)
    shift = balanced.bias - plain.bias
    n = torch.bincount(y).double()
    assert float(shift[0] - shift[1]) == pytest.approx(float(torch.log(n[1] / n[0])))


def test_a_class_without_an_image_is_never_predicted() -> None:
    x, y = examples(30)
    head = gaussian_head(x, y, CLASSES + 1)
    assert torch.isfinite(head.weight).all()
    assert torch.isfinite(head.bias).all()
    assert int((x @ head.weight.T + head.bias).argmax(1).max()) < CLASSES


def test_a_bank_adds_shares_of_it_to_the_text_head() -> None:
    x, y = examples(30)
    recipe = Recipe(solver="gda", head_start="zero_shot", gda=(0, 0.5, 2))
    assert recipe.bank == ({"gda": 0.0}, {"gda": 0.5}, {"gda": 2.0})
    heads = HeadBank(3, DIM, CLASSES).to(torch.float64)
    text = LinearHead(torch.randn(CLASSES, DIM).double(), torch.randn(CLASSES).double())
    heads.set_heads([text] * 3)
    solver = SOLVERS["gda"]
    assert isinstance(solver, DirectSolver)
    solver.solve(recipe, x, y, heads)
    added = gaussian_head(x, y, CLASSES)
    for number, share in enumerate((0, 0.5, 2)):
        head = heads.head(number)
        assert torch.allclose(head.weight, text.weight + share * added.weight, atol=1e-12)
        assert torch.allclose(head.bias, text.bias + share * added.bias, atol=1e-12)


def test_it_needs_the_text_head() -> None:
    with pytest.raises(ValueError, match="gda needs head_start: zero_shot"):
        Recipe(solver="gda")
