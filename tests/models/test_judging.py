"""Heads are judged where the embeddings lie, and little comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metrics import Metric
from models import judging
from models.calibration import judged
from models.head import HeadBank
from models.judging import head_losses, judge_heads
from tests.models.devices import Simulated
from tests.simulated_device import Meter

HEADS, N, CLASSES, DIM = 3, 50, 40, 6
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, DIM, generator=GENERATOR)
LABELS = torch.arange(N) % CLASSES
METRICS = get_args(Metric)


@pytest.fixture
def bank() -> HeadBank:
    heads = HeadBank(HEADS, DIM, CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        heads.weight.copy_(torch.randn(HEADS, CLASSES, DIM, generator=generator))
        heads.bias.copy_(torch.randn(HEADS, CLASSES, generator=generator))
    return heads


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Simulated() as found:
        yield found.meter


def there(x: Tensor) -> Tensor:
    return x.to("sim")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rows", [1, 7, N])
def test_heads_are_judged_as_by_their_logits(
    metric: Metric, rows: int, bank: HeadBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "BLOCK", rows * CLASSES)
    found = list(judge_heads(bank, X, LABELS.numpy(), metric))
    assert len(found) == HEADS
    for head, (values, loss) in enumerate(found):
        logits = bank.logits(X, head).detach()
        expected = judged(logits, LABELS.numpy(), metric)
        np.testing.assert_allclose(values, expected, rtol=0, atol=2e-6)  # the sixth digit
        assert loss == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-6)


@pytest.mark.parametrize("rows", [7, N])
def test_losses_are_those_of_the_logits(
    rows: int, bank: HeadBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "BLOCK", rows * CLASSES)
    found = head_losses(bank, X, LABELS, 0.1)
    logits = [bank.logits(X, head).detach() for head in range(HEADS)]
    expected = [F.cross_entropy(each, LABELS, label_smoothing=0.1).item() for each in logits]
    assert found == pytest.approx(expected, rel=1e-6)


def test_logits_that_are_no_numbers_are_judged(bank: HeadBank) -> None:
    broken = X.clone()
    broken[3] = torch.nan
    (values, loss), *_ = judge_heads(bank, broken, LABELS.numpy(), "log_loss")
    assert np.isnan(loss)
    assert np.isfinite(values).all()
    assert all(np.isnan(head_losses(bank, broken, LABELS, 0.0)))


@pytest.mark.parametrize("metric", METRICS)
def test_a_number_an_image_comes_back_at_once(metric: Metric, bank: HeadBank, meter: Meter) -> None:
    expected = list(judge_heads(bank, X, LABELS.numpy(), metric))
    heads, x = bank.to("sim"), there(X)
    meter.restart()
    found = list(judge_heads(heads, x, LABELS.numpy(), metric))
    size = 8 if metric == "log_loss" else 4
    assert meter.fetched == HEADS * (N + 1) * size < HEADS * N * CLASSES * 4
    assert sum(meter.waits.values()) == 1
    for (values, loss), (as_here, loss_here) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, as_here)
        assert loss == loss_here


def test_losses_come_back_at_once(bank: HeadBank, meter: Meter) -> None:
    heads, x, labels = bank.to("sim"), there(X), there(LABELS)
    meter.restart()
    head_losses(heads, x, labels, 0.1)
    assert sum(meter.waits.values()) == 1


def test_the_logits_of_all_images_are_never_there_at_once(
    bank: HeadBank, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, x = bank.to("sim"), there(X)

    def taken(rows: int) -> int:
        monkeypatch.setattr(judging, "BLOCK", rows * CLASSES)
        meter.restart()
        before = meter.live
        list(judge_heads(heads, x, LABELS.numpy(), "accuracy"))
        return meter.peak - before

    whole = N * CLASSES * 4
    assert taken(5) < whole < taken(N)


def test_without_room_heads_are_judged_on_the_cpu(bank: HeadBank, meter: Meter) -> None:
    expected = [values for values, _ in judge_heads(bank, X, LABELS.numpy(), "accuracy")]
    heads, x = bank.to("sim"), there(X)
    meter.limit = meter.live + N * CLASSES * 4
    found = [values for values, _ in judge_heads(heads, x, LABELS.numpy(), "accuracy")]
    np.testing.assert_array_equal(found, expected)
