"""How far the confidence of a cell's final fits can be believed, on the test split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records import TEST, Cell
from report.run import Run

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The predictions whose confidence lies in one tenth.

    Attributes:
        images: mean over the final fits.
    """

    confidence: float
    accuracy: float
    images: float


@dataclass(frozen=True)
class Confidences:
    """How sure each fit is of each image, and whether it is right; both of shape (fits, images)."""

    sure: NDArray[np.float64]
    right: NDArray[np.bool_]

    def bins(self) -> list[Bin]:
        """Sort the predictions of all fits into tenths of confidence; empty ones are left out."""
        tenth = _tenths(self.sure)
        inside = [tenth == place for place in range(BINS)]
        return [
            Bin(float(self.sure[at].mean()), float(self.right[at].mean()), at.sum() / len(at))
            for at in inside
            if at.any()
        ]

    def error(self) -> float:
        """Return the expected calibration error (Guo et al. 2017), a mean over the fits."""
        errors = []
        for sure, right in zip(self.sure, self.right, strict=True):
            tenth = _tenths(sure)
            gaps = np.bincount(tenth, weights=right - sure, minlength=BINS)
            errors.append(np.abs(gaps).sum() / sure.size)
        return float(np.mean(errors))

    def coverage(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds, the share of predictions at or above each, and their accuracy."""
        order = np.argsort(-self.sure.ravel(), kind="stable")
        sure, right = self.sure.ravel()[order], self.right.ravel()[order]
        last = np.flatnonzero(np.append(np.diff(sure) != 0, True))  # equal ones go together
        total = np.arange(1, sure.size + 1)
        return sure[last], total[last] / sure.size, np.cumsum(right)[last] / total[last]


def confidences(run: Run, cell: Cell, *, calibrated: bool) -> Confidences | None:
    """Return a cell's confidences on the test split, raw or by temperature.

    None if labels or confidences are not on disk.
    """
    labels, fits = run.test_labels.get(TEST), run.final_fits(*cell)
    scores = [fit.tests[TEST] for fit in fits]
    found = [score.calibrated if calibrated else score.confidences for score in scores]
    if labels is None or not found or any(len(each) != labels.size for each in found):
        return None
    right = np.array([score.predictions for score in scores]) == labels
    return Confidences(np.array(found), right)


def _tenths(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    tenths: NDArray[np.int64] = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)
    return tenths
