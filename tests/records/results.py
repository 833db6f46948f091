"""Results of final fits, made up."""

from __future__ import annotations

from typing import Any

from partitions import Shots
from records import Cell, FinalFitResult, SetScore


def a_result(cell: Cell, seed: int, fit_key: str = "a1", **changes: Any) -> FinalFitResult:
    """The result of a final fit."""
    share = cell.partition
    fields = {
        "partition": share,
        "method": cell.method,
        "seed": seed,
        "n_train": 3 * share.number if isinstance(share, Shots) else round(10 * share),
        "n_val": 360,
        "val_accuracy": 0.5,
        "val_correct": [0.0, 1.0] * 180,
        "samples_chosen": 3000,
        "steps_chosen": 40 + seed,
        "weight_distance": 0.031,
        "chosen": {},
        "alpha": None,
        "ema": None,
        "gradient_norms": {},
        "seconds": 3.2,
        "fit_key": fit_key,
        "tests": {"test": SetScore(0.5, [1, 0])},
    }
    return FinalFitResult(**(fields | changes))
