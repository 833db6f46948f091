"""Describe a data set before a run: its classes, what was passed over, warnings."""

from __future__ import annotations

from collections import Counter

from data.dataset import Dataset

ALL_NAMED = 12  # classes up to which all are named
LARGEST, SMALLEST = 5, 3  # of more, those that are


def describe(dataset: Dataset) -> list[str]:
    """Describe a data set in lines, classes first; counts are of train, val and test together."""
    warnings = [f"warning: {line}" for line in dataset.warnings]
    described = [len(words) for words in dataset.words if not isinstance(words, str)]
    lines = [f"{sum(described)} descriptions of {len(described)} classes"] if described else []
    return [_classes(dataset), *lines, *dataset.passed_over, *warnings]


def _classes(dataset: Dataset) -> str:
    counts: Counter[int] = Counter()
    for split in (dataset.train, dataset.val, dataset.tests["test"].split):
        counts.update(split.labels.tolist())
    order = list(range(len(dataset.classes)))
    if len(order) > ALL_NAMED:
        order.sort(key=lambda label: -counts[label])
    named = [f"{dataset.classes[label]} ({counts[label]})" for label in order]
    if (left := len(named) - LARGEST - SMALLEST) > 0 and len(named) > ALL_NAMED:
        named[LARGEST:-SMALLEST] = [f"{left} more"]
        return f"{len(order)} classes by size: {', '.join(named)}"
    return f"{len(order)} classes: {', '.join(named)}"
