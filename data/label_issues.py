"""Images whose label is probably wrong, by confident learning.

Northcutt, Jiang & Chuang 2021 (arXiv:1911.00068). A classifier that was not trained on an image
says how probable each class is. Where it is surer of another class than it is, on the mean, of that
class's own images, the label is doubtful. So it finds most wrong labels, not all, and takes few
right ones for wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.splits import Indices, numbered


class Judged(NamedTuple):
    """What a classifier says of rows that it has not been trained on; shapes (n,).

    Attributes:
        own: the probability of the row's label.
        likeliest, most: the most probable class, and its probability.
    """

    own: NDArray[np.floating]
    likeliest: Indices
    most: NDArray[np.floating]

    def of(self, rows: Indices) -> Judged:
        """Return what it says of some rows."""
        return Judged(self.own[rows], self.likeliest[rows], self.most[rows])


class Doubt(NamedTuple):
    """A row with a doubtful label, the class that is more probable, and how probable both are."""

    row: int
    suggested: int
    given_probability: float
    suggested_probability: float


def doubtful_rows(judged: Judged, labels: ArrayLike) -> list[Doubt]:
    """Find rows whose label is probably wrong, the most probable errors first.

    A class's threshold is the mean probability of the class over the rows that are labelled so. A
    row is doubtful if its most probable class is another than its label, and more probable than
    that class's threshold.

    Args:
        judged: what a classifier says that has not been trained on the row.
        labels: (n,) class ids.
    """
    given = np.asarray(labels, dtype=np.int64)
    own, most = (values.astype(np.float64) for values in (judged.own, judged.most))
    classes = 1 + max(given.max(initial=0), judged.likeliest.max(initial=0))
    counts = np.bincount(given, minlength=classes)
    sums = np.bincount(given, own, minlength=classes)
    thresholds = np.divide(sums, counts, out=np.full(classes, np.inf), where=counts > 0)
    found = np.flatnonzero((most > own) & (most > thresholds[judged.likeliest]))
    order = found[np.argsort(own[found] - most[found], kind="stable")]
    return [Doubt(int(r), int(judged.likeliest[r]), float(own[r]), float(most[r])) for r in order]


def unit_ids(digests: Sequence[str], groups: Sequence[str]) -> Indices:
    """Number rows so that those of one group, or of equal digests, have one number."""
    from scipy.sparse import coo_array  # after mistakes are reported
    from scipy.sparse.csgraph import connected_components

    contents, members = numbered(digests), numbered(groups)
    size = int(contents.max()) + 1
    places = (contents, size + members)
    nodes = size + int(members.max()) + 1
    graph = coo_array((np.ones(len(contents)), places), shape=(nodes, nodes))
    _, unit = connected_components(graph, directed=False)
    return np.asarray(unit[contents], dtype=np.int64)
