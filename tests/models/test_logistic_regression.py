"""The exact probe is scikit-learn's logistic regression, whatever else is in the bank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from metrics import image_weights
from models import logistic_regression
from models.head import LinearHead
from models.logistic_regression import GRADIENT_TOLERANCE, MAX_ITERATIONS, solve_probes

N, DIM, CLASSES = 60, 5, 3
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(N) % CLASSES
# Overlapping classes: the solution is finite even without a penalty.
CENTRES = torch.randn(CLASSES, DIM, generator=GENERATOR, dtype=torch.float64)
X = CENTRES[LABELS] + 1.5 * torch.randn(N, DIM, generator=GENERATOR, dtype=torch.float64)

decays = st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0])


def probabilities(head: LinearHead, x: Tensor = X) -> Tensor:
    return (x @ head.weight.T + head.bias).softmax(-1)


ANCHOR = LinearHead(
    torch.randn(CLASSES, DIM, generator=GENERATOR, dtype=torch.float64),
    torch.randn(CLASSES, generator=GENERATOR, dtype=torch.float64),
)


def objective(
    head: LinearHead, decay: float, smoothing: float = 0.0, anchor: LinearHead | None = None
) -> Tensor:
    """The penalised mean loss, as the docstring has it."""
    logits = X @ head.weight.T + head.bias
    fitted = F.cross_entropy(logits, LABELS, label_smoothing=smoothing)
    if anchor is None:
        return fitted + decay / 2 * head.weight.square().sum()
    moved = (head.weight - anchor.weight).square().sum() + (head.bias - anchor.bias).square().sum()
    return fitted + decay / 2 * moved


@pytest.mark.parametrize("decay", [1e-4, 1e-3, 1e-2, 0.1, 1.0])
def test_the_solution_is_scikit_learns(decay: float) -> None:
    (head,), _ = solve_probes(X, LABELS, CLASSES, [decay])
    model = LogisticRegression(C=1 / (decay * N), tol=1e-8, max_iter=10000).fit(X, LABELS)
    theirs = LinearHead(torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))
    found = probabilities(head).numpy()
    np.testing.assert_allclose(found, model.predict_proba(X.numpy()), rtol=0, atol=1e-4)
    least = objective(theirs, decay).item()
    assert objective(head, decay).item() == pytest.approx(least, rel=1e-7)
    # The softmax does not see a shift of all classes; the penalty does, so weights agree.
    torch.testing.assert_close(head.weight, theirs.weight, rtol=0, atol=1e-3)
    shift = (head.bias - theirs.bias).mean()
    torch.testing.assert_close(head.bias - shift, theirs.bias, rtol=0, atol=1e-3)


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_with_balanced_weights_it_is_scikit_learns_too(decay: float) -> None:
    rows = torch.cat([torch.arange(30), torch.arange(30, N)[LABELS[30:] == 0]])
    x, y = X[rows], LABELS[rows]
    weights = torch.from_numpy(image_weights(y.numpy(), "balanced_accuracy"))
    (head,), _ = solve_probes(x, y, CLASSES, [decay], weights=weights)
    settings: dict[str, Any] = {"tol": 1e-8, "max_iter": 10000, "class_weight": "balanced"}
    model = LogisticRegression(C=1 / (decay * len(rows)), **settings).fit(x, y)
    found = probabilities(head, x).numpy()
    np.testing.assert_allclose(found, model.predict_proba(x.numpy()), rtol=0, atol=1e-4)
    (plain,), _ = solve_probes(x, y, CLASSES, [decay])
    assert not np.allclose(probabilities(plain, x).numpy(), found, atol=0.01)


@given(st.floats(0, 0.5), decays.filter(bool), st.sampled_from([None, ANCHOR]))
@settings(max_examples=20, deadline=None)
def test_the_solution_has_no_gradient(
    smoothing: float, decay: float, anchor: LinearHead | None
) -> None:
    (head,), _ = solve_probes(X, LABELS, CLASSES, [decay], smoothing, anchor)
    leaves = [head.weight.requires_grad_(), head.bias.requires_grad_()]
    for gradient in torch.autograd.grad(objective(head, decay, smoothing, anchor), leaves):
        assert gradient.abs().max() <= 2 * GRADIENT_TOLERANCE


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_blocks_of_images_give_the_same_head(
    anchor: LinearHead | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.rand(N, generator=GENERATOR).double()
    found = []
    for numbers in (1 << 20, 7 * DIM):
        monkeypatch.setattr(logistic_regression, "BLOCK", numbers)
        heads, _ = solve_probes(X, LABELS, CLASSES, [1e-3, 0.1], 0.1, anchor, weights)
        found.append(heads)
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(blocks.weight, whole.weight, rtol=0, atol=1e-9)
        torch.testing.assert_close(blocks.bias, whole.bias, rtol=0, atol=1e-9)


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_many_images_are_solved_in_float32_and_the_solution_has_no_gradient_in_float64(
    anchor: LinearHead | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, bank = X.float(), [1e-3, 0.1]
    (whole, _) = solve_probes(x, LABELS, CLASSES, bank, 0.1, anchor)
    evaluated: list[torch.dtype] = []
    exact = logistic_regression._Images.loss

    def noted(self: logistic_regression._Images, head: Tensor) -> tuple[Tensor, Tensor]:
        evaluated.append(self.dtype)
        return exact(self, head)

    monkeypatch.setattr(logistic_regression._Images, "loss", noted)
    monkeypatch.setattr(logistic_regression, "BLOCK", 7 * DIM)
    heads, _ = solve_probes(x, LABELS, CLASSES, bank, 0.1, anchor)
    assert evaluated.count(torch.float32) > 2 * evaluated.count(torch.float64) > 0
    for decay, head, other in zip(bank, heads, whole, strict=True):
        torch.testing.assert_close(
            probabilities(head, x), probabilities(other, x), atol=1e-4, rtol=0
        )
        rounded = LinearHead(head.weight.double(), head.bias.double())
        leaves = [rounded.weight.requires_grad_(), rounded.bias.requires_grad_()]
        pulled = objective(rounded, decay, 0.1, anchor)
        for gradient in torch.autograd.grad(pulled, leaves):
            assert gradient.abs().max() <= 2 * GRADIENT_TOLERANCE


def test_iterations_in_both_types_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "BLOCK", 7 * DIM)
    monkeypatch.setattr(logistic_regression, "MAX_ITERATIONS", 3)
    _, iterations = solve_probes(X.float(), LABELS, CLASSES, [1e-3])
    assert iterations == 3


def test_the_strongest_pull_is_the_anchor_itself() -> None:
    (head,), _ = solve_probes(X, LABELS, CLASSES, [1e9], anchor=ANCHOR)
    logits, expected = (X @ each.weight.T + each.bias for each in (head, ANCHOR))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_an_anchor_at_zero_pulls_the_bias_as_well() -> None:
    nothing = LinearHead(torch.zeros(CLASSES, DIM), torch.zeros(CLASSES))
    (pulled,), _ = solve_probes(X, LABELS, CLASSES, [0.1], anchor=nothing)
    (plain,), _ = solve_probes(X, LABELS, CLASSES, [0.1])
    assert objective(pulled, 0.1) >= objective(plain, 0.1)
    assert pulled.bias.norm() < plain.bias.norm()


def test_smoothing_is_not_no_smoothing() -> None:
    (sharp,), _ = solve_probes(X, LABELS, CLASSES, [1e-3])
    (smooth,), _ = solve_probes(X, LABELS, CLASSES, [1e-3], 0.2)
    assert smooth.weight.norm() < 0.9 * sharp.weight.norm()


@given(st.lists(decays, min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_a_head_depends_on_its_own_decay_alone(bank: list[float]) -> None:
    """Neither their order nor what else is in the bank matters, though they start from it."""
    heads, iterations = solve_probes(X, LABELS, CLASSES, bank)
    assert len(heads) == len(bank)
    assert iterations >= 1
    for decay, head in zip(bank, heads, strict=True):
        (alone,), _ = solve_probes(X, LABELS, CLASSES, [decay])
        torch.testing.assert_close(probabilities(head), probabilities(alone), rtol=0, atol=1e-4)


def test_more_decay_means_less_weight_in_the_order_asked_for() -> None:
    bank = [0.1, 1e-3, 10.0, 1e-2]
    heads, _ = solve_probes(X, LABELS, CLASSES, bank)
    norms = {decay: head.weight.norm().item() for decay, head in zip(bank, heads, strict=True)}
    assert [norms[d] for d in sorted(norms)] == sorted(norms.values(), reverse=True)


def test_equal_decays_give_heads_of_their_own() -> None:
    (one, other), _ = solve_probes(X, LABELS, CLASSES, [0.1, 0.1])
    assert torch.equal(one.weight, other.weight)


def test_starting_from_the_next_stronger_decay_saves_iterations() -> None:
    bank = [10.0**power for power in np.arange(-3, 1, 0.5)]
    _, together = solve_probes(X, LABELS, CLASSES, bank)
    alone = sum(solve_probes(X, LABELS, CLASSES, [decay])[1] for decay in bank)
    assert together < alone


def test_correlated_embeddings_take_no_more_iterations() -> None:
    """Without a penalty the problem is the same in any coordinates, and so is its cost."""
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(DIM, DIM, generator=generator, dtype=torch.float64).matrix_exp()
    assert torch.linalg.cond(mixed) > 50
    (plain,), few = solve_probes(X, LABELS, CLASSES, [0.0])
    (other,), as_few = solve_probes(X @ mixed, LABELS, CLASSES, [0.0])
    assert as_few <= 1.5 * few
    torch.testing.assert_close(
        probabilities(other, X @ mixed), probabilities(plain), rtol=0, atol=1e-4
    )


def test_a_constant_is_no_part_of_the_penalty() -> None:
    """The bias is free: with a strong penalty the head predicts the classes' shares."""
    labels = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    (head,), _ = solve_probes(X, labels, CLASSES, [1e4])
    expected = torch.tensor([40, 15, 5], dtype=torch.float64) / N
    torch.testing.assert_close(probabilities(head), expected.expand(N, -1), rtol=0, atol=1e-3)


def test_heads_come_in_the_embeddings_type() -> None:
    (exact,), _ = solve_probes(X.float().double(), LABELS, CLASSES, [0.01])
    (single,), _ = solve_probes(X.float(), LABELS, CLASSES, [0.01])
    assert single.weight.dtype == single.bias.dtype == torch.float32
    # Solved in float64 all the same.
    assert torch.equal(single.weight, exact.weight.float())
    assert not single.weight.requires_grad


def test_separable_classes_without_a_penalty_come_to_an_end() -> None:
    x = torch.eye(CLASSES, DIM)[LABELS]
    (head,), iterations = solve_probes(x, LABELS, CLASSES, [0.0])
    assert iterations <= MAX_ITERATIONS
    assert head.weight.isfinite().all()
    assert torch.equal(probabilities(head, x).argmax(1), LABELS)


def test_a_class_without_examples_is_never_predicted() -> None:
    (head,), _ = solve_probes(X, LABELS, CLASSES + 1, [0.01])
    assert head.weight.shape == (CLASSES + 1, DIM)
    assert probabilities(head)[:, CLASSES].max() < 0.01
