"""Fits on an experiment's features without Ray, which the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fits import Laboratory
from benchmarks.probe import ours
from search_spaces import load_experiment

DIGITS = Path(__file__).resolve().parents[2] / "search_spaces" / "digits.yaml"


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return Laboratory(load_experiment(DIGITS), [], ("train", "val", "test"))


def test_splits_are_found_by_name(lab: Laboratory) -> None:
    dataset = lab.dataset
    for name, split in (("val", dataset.val), ("test", dataset.tests["test"].split)):
        assert np.array_equal(lab.examples(name, "head").labels, split.labels)


def test_a_probe_is_scored_on_test_images(lab: Laboratory) -> None:
    assert 0.5 < ours(lab, partition=1, seed=0) < 1
