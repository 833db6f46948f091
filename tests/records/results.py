"""Results of final fits, made up."""

from __future__ import annotations

from typing import Any

from records import Cell, FinalFitResult, SetScore


def a_result(cell: Cell, seed: int, fit_key: str = "a1", **changes: Any) -> FinalFitResult:
    """The result of a final fit."""
    fields = {
        "partition": cell.partition,
        "method": cell.method,
        "seed": seed,
        "n_train": round(10 * cell.partition),
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
