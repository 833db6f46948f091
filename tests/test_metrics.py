"""Every metric is scikit-learn's, and the mean of a value for each image."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss

from metrics import WORDS, Metric, image_values, image_weights, measured

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def expected(labels: np.ndarray, predictions: np.ndarray, metric: Metric) -> float:
    classes = np.unique(labels)
    if metric == "macro_f1":
        return float(f1_score(labels, predictions, labels=classes, average="macro"))
    if metric == "balanced_accuracy":
        return float(np.mean([(predictions[labels == c] == c).mean() for c in classes]))
    return float((predictions == labels).mean())


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
@given(PAIRS)
def test_it_is_scikit_learns(metric: Metric, pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    found = measured(image_values(predictions, labels, metric))
    assert found == pytest.approx(expected(labels, predictions, metric))
    assert 0 <= found <= 1
    assert image_values(predictions, labels, metric).mean() == pytest.approx(found)
    assert image_weights(labels, metric).mean() == pytest.approx(1)


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=40))
def test_likelihood_is_that_of_scikit_learns_log_loss(right: list[float]) -> None:
    labels = np.zeros(len(right), np.int64)
    probabilities = np.array([[p, 1 - p] for p in right])
    values = image_values(labels, labels, "log_loss", np.log(right).tolist())
    loss = log_loss(labels, probabilities, labels=[0, 1])
    assert measured(values) == pytest.approx(np.exp(-loss))


def test_values_of_images_tell_how_macro_f1_varies_with_them() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(3, 400, p=[0.6, 0.3, 0.1])
    predictions = np.where(generator.random(400) < 0.7, labels, generator.integers(0, 3, 400))
    draws = generator.integers(0, 400, (2000, 400))
    resampled = [expected(labels[d], predictions[d], "macro_f1") for d in draws[:500]]
    values = image_values(predictions, labels, "macro_f1")
    assert values[draws].mean(1).std() == pytest.approx(np.std(resampled), rel=0.15)


def test_no_images_have_no_weights() -> None:
    assert image_weights(np.array([], dtype=np.int64), "balanced_accuracy").shape == (0,)


def test_every_metric_has_a_name_for_people() -> None:
    assert set(WORDS) == set(get_args(Metric))
