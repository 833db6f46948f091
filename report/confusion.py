"""Which classes a cell's final fits take for which, on the test split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from records import TEST, Cell
from report.calibration import confidences
from report.run import Run

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Mistake:
    """A test image that the fits get wrong.

    Attributes:
        confidence: how sure the fits that chose the wrong class are, averaged over all fits; it is
            the share of these fits where confidences are not on disk.
        known: whether confidences are on disk.
    """

    key: str
    label: str
    predicted: str
    confidence: float
    known: bool


@dataclass(frozen=True)
class Confusion:
    """How many test images of each class are taken for each class.

    Only what occurs is held: a table of 5,000 by 5,000 classes takes 200 MB.

    Attributes:
        names: of the classes that occur, as labels or as predictions.
        labels, predictions: of each pair that occurs, indices into `names`, shape (pairs,).
        counts: its images, means over the fits.
    """

    names: tuple[str, ...]
    labels: Places
    predictions: Places
    counts: NDArray[np.float64]

    @cached_property
    def images(self) -> NDArray[np.float64]:
        """Test images of each class, shape (classes,)."""
        return self._by_class(self.labels, self.counts)

    @cached_property
    def predicted(self) -> NDArray[np.float64]:
        """Images that are taken for each class, shape (classes,)."""
        return self._by_class(self.predictions, self.counts)

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """Images of each class that are recognised, shape (classes,)."""
        own = self.labels == self.predictions
        return self._by_class(self.labels[own], self.counts[own])

    def _by_class(self, classes: Places, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(classes, counts, len(self.names)), dtype=np.float64)

    def table(self) -> NDArray[np.float64]:
        """Make the whole table: labels are its rows, predictions its columns."""
        table = np.zeros((len(self.names),) * 2)
        table[self.labels, self.predictions] = self.counts
        return table

    def pairs(self) -> list[tuple[str, str, float, float]]:
        """List what is taken for what: label, prediction, images, share of the label's images."""
        found = [
            (self.names[a], self.names[b], float(count), float(count / self.images[a]))
            for a, b, count in zip(self.labels, self.predictions, self.counts, strict=True)
            if a != b
        ]
        return sorted(found, key=lambda pair: -pair[2])


def class_names(run: Run) -> dict[int, str]:
    """Return the name of each class, also of those without test images, where the run lists it."""
    listed = run.test_images.drop_duplicates("label")
    return dict(enumerate(map(str, run.classes["label"]))) | {
        int(label): str(name) or f"{label:g}"
        for label, name in zip(listed["label"], listed["class_name"], strict=True)
    }


def confusion(run: Run, cell: Cell) -> Confusion | None:
    """Count a cell's predictions on the test split; None without fits or labels."""
    labels, fits = run.test_labels.get(TEST), run.final_fits(*cell)
    if labels is None or run.scores(*cell) is None:  # which checks predictions by labels
        return None
    names = class_names(run)
    truth = np.tile(labels, len(fits))
    taken = np.concatenate([fit.tests[TEST].predictions for fit in fits])
    found, places = np.unique(np.concatenate([truth, taken]), return_inverse=True)
    (given, predicted), counts = np.unique(places.reshape(2, -1), axis=1, return_counts=True)
    named = tuple(names.get(label, f"class {label}") for label in found.tolist())
    return Confusion(named, given, predicted, counts / len(fits))


def mistakes(run: Run, cell: Cell) -> list[Mistake]:
    """List a cell's mistakes on the test split, the most confident first."""
    labels, fits = run.test_labels.get(TEST), run.final_fits(*cell)
    if labels is None or run.scores(*cell) is None:
        return []
    names = class_names(run)
    keys = run.test_images.loc[run.test_images["set"] == TEST, "key"].to_list()
    predicted = np.array([fit.tests[TEST].predictions for fit in fits])
    read = confidences(run, cell, calibrated=False)
    known, sure = read is not None, read.sure if read else np.ones(predicted.shape)
    found = []
    for image in np.flatnonzero((predicted != labels).any(axis=0)):
        wrong = {
            int(c): float(sure[predicted[:, image] == c, image].sum() / len(fits))
            for c in np.unique(predicted[:, image])
            if c != labels[image]
        }
        chosen = max(wrong, key=wrong.__getitem__)
        label, name = int(labels[image]), names.get(chosen, f"class {chosen}")
        found.append(Mistake(keys[image], names[label], name, wrong[chosen], known))
    return sorted(found, key=lambda mistake: -mistake.confidence)
