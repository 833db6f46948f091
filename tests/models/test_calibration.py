"""A temperature makes logits as sure as they are right."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import models.calibration
from models.calibration import LEAST, RANGE, confidences, fit_temperature, log_likelihoods

N, CLASSES = 4000, 5
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(N, CLASSES, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.multinomial(LOGITS.softmax(-1), 1, generator=GENERATOR)[:, 0]


@given(scale=st.floats(0.05, 20))
def test_it_undoes_a_factor_on_logits_that_are_honest(scale: float) -> None:
    assert fit_temperature(scale * LOGITS, LABELS) == pytest.approx(scale, rel=0.1)


@given(factor=st.floats(0.5, 2).filter(lambda factor: abs(factor - 1) > 0.01))
def test_no_other_temperature_makes_the_labels_likelier(factor: float) -> None:
    found = fit_temperature(LOGITS.float(), LABELS)
    best, other = (F.cross_entropy(LOGITS / t, LABELS) for t in (found, factor * found))
    assert best < other


def test_logits_that_are_always_right_stay_as_they_are() -> None:
    assert fit_temperature(LOGITS, LOGITS.argmax(-1)) == 1.0


def test_logits_that_know_nothing_are_made_as_unsure_as_may_be() -> None:
    assert fit_temperature(LOGITS, LOGITS.argmin(-1)) == pytest.approx(RANGE[1], rel=1e-3)


def test_log_likelihoods_are_those_of_the_true_class_and_bounded() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, 0.0], [float("nan"), 0.0], [200.0, 0.0]])
    expected = [math.log(0.5), -math.log1p(math.exp(-9)), LEAST, LEAST]
    assert log_likelihoods(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(expected, abs=1e-6)


def test_confidences_are_those_of_the_predicted_class_to_4_digits() -> None:
    logits = torch.tensor([[0.0, 1.0], [3.0, 3.0], [float("nan"), 0.0], [200.0, 0.0]])
    assert confidences(logits) == [0.7311, 0.5, 0.0, 1.0]
    assert confidences(logits, 0.5) == [0.8808, 0.5, 0.0, 1.0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[object]:
        once = [each(LOGITS.float(), LABELS) for each in (fit_temperature, log_likelihoods)]
        return [*once, confidences(LOGITS.float(), 0.7)]

    whole = found()
    monkeypatch.setattr(models.calibration, "BLOCK", 7 * CLASSES)
    assert found() == whole


def test_many_classes_are_made_exact_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    exp = torch.Tensor.exp_

    def noted(self: torch.Tensor) -> torch.Tensor:
        sizes.append(self.numel())
        return exp(self)

    monkeypatch.setattr(torch.Tensor, "exp_", noted)
    logits, labels = torch.zeros(20, models.calibration.BLOCK // 4), torch.ones(20).long()
    confidences(logits)
    assert sizes == [models.calibration.BLOCK] * 5
    fit_temperature(logits, labels)
    log_likelihoods(logits, labels)
    assert {*sizes} == {models.calibration.BLOCK}
