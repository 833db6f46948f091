"""A bank of heads is that many heads, each trained by itself."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.head import BankAdamW, HeadBank, LinearHead

N, DIM, CLASSES = 20, 6, 3
SETTINGS = [(1e-3, 0.0), (1e-2, 0.1), (0.3, 0.0), (0.3, 1.0), (5.0, 0.05)]
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, DIM, generator=GENERATOR, dtype=torch.float64)
Y = torch.randint(CLASSES, (N,), generator=GENERATOR)


def random_bank(heads: int = len(SETTINGS)) -> HeadBank:
    bank = HeadBank(heads, DIM, CLASSES).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in bank.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return bank


def bank_step(bank: HeadBank, optimizer: BankAdamW, rows: Tensor, factor: float) -> None:
    logits = bank(X[rows])
    loss = F.cross_entropy(logits.flatten(0, 1), Y[rows].repeat(len(logits)), reduction="none")
    loss.reshape(len(logits), -1).mean(1).sum().backward()
    optimizer.param_groups[0]["lr"] = factor
    optimizer.step()
    optimizer.zero_grad()


def batches(steps: int) -> list[tuple[Tensor, float]]:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randperm(N, generator=generator)[:8], 1 - step / steps) for step in range(steps)]


def test_logits_are_those_of_separate_layers() -> None:
    bank = random_bank()
    logits = bank(X)
    assert logits.shape == (len(SETTINGS), N, CLASSES)
    for i, found in enumerate(logits):
        head = bank.head(i)
        torch.testing.assert_close(found, F.linear(X, head.weight, head.bias))


def test_a_bank_starts_at_zero() -> None:
    assert not HeadBank(2, DIM, CLASSES)(X.float()).any()


def test_every_head_starts_from_the_given_one_and_owns_its_copy() -> None:
    bank = HeadBank(3, DIM, CLASSES)
    start = LinearHead(torch.randn(CLASSES, DIM), torch.randn(CLASSES))
    bank.set_heads([start] * 3)
    taken = bank.head(1)
    with torch.no_grad():
        bank.weight[0].zero_()
        bank.bias.zero_()
    for i in (1, 2):
        assert torch.equal(bank.head(i).weight, start.weight)
    assert torch.equal(taken.bias, start.bias)


def test_a_bank_is_as_many_runs_of_adamw() -> None:
    bank = random_bank()
    layers = []
    for i in range(len(SETTINGS)):
        layer, head = nn.Linear(DIM, CLASSES, dtype=torch.float64), bank.head(i)
        layer.load_state_dict({"weight": head.weight, "bias": head.bias})
        layers.append(layer)
    optimizer = BankAdamW(bank, SETTINGS)
    theirs = [
        torch.optim.AdamW(
            [
                {"params": [layer.weight], "weight_decay": decay},
                {"params": [layer.bias], "weight_decay": 0.0},
            ],
            lr=rate,
        )
        for layer, (rate, decay) in zip(layers, SETTINGS, strict=True)
    ]
    for rows, factor in batches(30):
        bank_step(bank, optimizer, rows, factor)
        for layer, other, (rate, _) in zip(layers, theirs, SETTINGS, strict=True):
            F.cross_entropy(layer(X[rows]), Y[rows]).backward()
            for group in other.param_groups:
                group["lr"] = factor * rate
            other.step()
            other.zero_grad()
    for i, layer in enumerate(layers):
        torch.testing.assert_close(bank.head(i).weight, layer.weight.detach(), rtol=0, atol=1e-9)
        torch.testing.assert_close(bank.head(i).bias, layer.bias.detach(), rtol=0, atol=1e-9)


def test_without_a_gradient_decay_moves_weights_and_not_biases() -> None:
    bank = random_bank(1)
    before = copy.deepcopy(bank)
    for parameter in bank.parameters():
        parameter.grad = torch.zeros_like(parameter)
    BankAdamW(bank, [(0.5, 0.1)]).step()
    torch.testing.assert_close(bank.weight, before.weight * 0.95)
    assert torch.equal(bank.bias, before.bias)


def test_a_head_that_overflows_leaves_the_others_alone() -> None:
    alone, together = random_bank(1), random_bank(1)
    with_wild = HeadBank(2, DIM, CLASSES).double()
    with_wild.set_heads([together.head(0)] * 2)
    one = BankAdamW(alone, [(1e-2, 0.0)])
    two = BankAdamW(with_wild, [(1e-2, 0.0), (100.0, 100.0)])
    for rows, factor in batches(200):
        bank_step(alone, one, rows, max(factor, 0.9))
        bank_step(with_wild, two, rows, max(factor, 0.9))
    assert not with_wild.head(1).weight.isfinite().all()
    torch.testing.assert_close(with_wild.head(0).weight, alone.head(0).weight)


@pytest.mark.parametrize("through_a_file", [False, True])
def test_the_state_goes_on_where_it_was(through_a_file: bool) -> None:
    whole, first = random_bank(), random_bank()
    optimizer, interrupted = BankAdamW(whole, SETTINGS), BankAdamW(first, SETTINGS)
    schedule = batches(20)
    for rows, factor in schedule:
        bank_step(whole, optimizer, rows, factor)
    for rows, factor in schedule[:9]:
        bank_step(first, interrupted, rows, factor)
    second = random_bank()
    second.load_state_dict(first.state_dict())
    resumed = BankAdamW(second, SETTINGS)
    state = copy.deepcopy(interrupted.state_dict())
    if through_a_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    resumed.load_state_dict(state)
    for rows, factor in schedule[9:]:
        bank_step(second, resumed, rows, factor)
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.bias, whole.bias)
