"""Balanced accuracy is the mean over classes of the share that is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from metrics import image_weights, weighted_accuracy

CLASSES = st.integers(0, 4)


@given(st.lists(st.tuples(CLASSES, CLASSES), min_size=1, max_size=40))
def test_it_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (np.array(column) for column in zip(*pairs, strict=True))
    plain = weighted_accuracy(predictions, labels, "accuracy")
    assert plain == pytest.approx((predictions == labels).mean())
    balanced = weighted_accuracy(predictions, labels, "balanced_accuracy")
    classes = np.unique(labels)
    expected = np.mean([(predictions[labels == c] == c).mean() for c in classes])
    assert balanced == pytest.approx(expected)
    if set(predictions) <= set(classes):  # else scikit-learn warns
        assert balanced == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert image_weights(labels, "balanced_accuracy").mean() == pytest.approx(1)
    assert max(plain, balanced) <= 1


def test_no_images_have_no_weights() -> None:
    assert image_weights(np.array([], dtype=np.int64), "balanced_accuracy").shape == (0,)
