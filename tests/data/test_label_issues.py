"""Confident learning finds labels that were changed, and few others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from data import Judged, doubtful_rows, unit_ids

CLASSES = 4
rows = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.lists(st.floats(0.01, 1), min_size=4, max_size=4)),
    min_size=1,
    max_size=40,
)


def judged(probabilities: NDArray[np.float64], labels: ArrayLike) -> Judged:
    """What class probabilities (n, C) say of each row."""
    own = probabilities[np.arange(len(probabilities)), labels]
    return Judged(own, probabilities.argmax(axis=1), probabilities.max(axis=1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_that_were_flipped_are_found_and_few_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.arange(1200) % CLASSES
    x = 3 * np.eye(CLASSES, 12)[truth] + 0.3 * rng.standard_normal((1200, 12))
    flipped = rng.choice(1200, 60, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + rng.integers(1, CLASSES, 60)) % CLASSES
    probabilities = cross_val_predict(LogisticRegression(), x, labels, method="predict_proba")
    found = doubtful_rows(judged(probabilities, labels), labels)
    right = [doubt for doubt in found if doubt.row in set(flipped)]
    assert len(right) >= 0.8 * len(flipped)
    assert len(found) - len(right) <= 0.1 * len(flipped)
    assert sum(doubt.suggested == truth[doubt.row] for doubt in right) >= 0.9 * len(right)


@given(rows)
def test_what_is_doubted_is_likelier_elsewhere_and_the_likeliest_error_is_first(
    drawn: list[tuple[int, list[float]]],
) -> None:
    labels = np.array([label for label, _ in drawn])
    weights = np.array([values for _, values in drawn])
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    found = doubtful_rows(judged(probabilities, labels), labels)
    for doubt in found:
        row = probabilities[doubt.row]
        assert doubt.suggested != labels[doubt.row]
        assert doubt.given_probability == row[labels[doubt.row]]
        assert doubt.suggested_probability == row.max() > doubt.given_probability
        assert row.max() > probabilities[labels == doubt.suggested, doubt.suggested].mean()
    gaps = [doubt.suggested_probability - doubt.given_probability for doubt in found]
    assert gaps == sorted(gaps, reverse=True)


def test_a_class_is_suggested_only_above_what_its_own_images_have() -> None:
    sure, unsure = [0.9, 0.1], [0.4, 0.6]
    probabilities = np.array([sure, sure, unsure, [0.3, 0.7]])
    for labels, doubted in (([0, 0, 0, 1], []), ([0, 0, 1, 0], [3])):
        found = doubtful_rows(judged(probabilities, labels), labels)
        assert [doubt.row for doubt in found] == doubted


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz")), min_size=1))
def test_rows_share_a_unit_where_contents_or_groups_join_them(pairs: list[tuple[str, str]]) -> None:
    units = unit_ids([digest for digest, _ in pairs], [group for _, group in pairs])
    joined = {row: {row} for row in range(len(pairs))}
    for a, one in enumerate(pairs):
        for b, other in enumerate(pairs):
            if one[0] == other[0] or one[1] == other[1]:
                both = joined[a] | joined[b]
                joined |= dict.fromkeys(both, both)
    assert all((units[a] == units[b]) == (b in joined[a]) for a in joined for b in joined)
