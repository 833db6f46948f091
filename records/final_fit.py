"""The final fits of a run: each winner refitted with several seeds, one file a fit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from errors import InputError

TEST = "test"


@dataclass(frozen=True)
class FinalFit:
    """What the report needs of one file; fields with a default may be missing in it.

    Attributes:
        alpha: where between its start and its tuned weights it stands (1: the tuned ones).
        ema: whether validation chose the averaged weights.
        gradient_norms: layer group -> kind -> norm.
        predictions: a class per test image.
        extra: name of a further test set -> `accuracy` and `predictions`.
    """

    partition: float
    method: str
    seed: int
    n_train: int
    n_val: int
    n_test: int
    test_accuracy: float
    config_id: str
    steps_chosen: float | None = None
    weight_distance: float | None = None
    seconds: float = 0.0
    alpha: float | None = None
    ema: bool | None = None
    gradient_norms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predictions: list[int] = field(default_factory=list)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def accuracy_on(self, test_set: str) -> float | None:
        """Return the accuracy on the test split or a further set; None if not scored on it."""
        if test_set == TEST:
            return self.test_accuracy
        return self.extra[test_set]["accuracy"] if test_set in self.extra else None

    def predictions_on(self, test_set: str) -> list[int]:
        """Return the predicted classes of a set, in its order."""
        if test_set == TEST:
            return self.predictions
        return list(self.extra[test_set]["predictions"])


REQUIRED = {f.name for f in fields(FinalFit) if f.default is f.default_factory is MISSING}


def read_final_fits(folder: Path) -> dict[str, dict[int, FinalFit]]:
    """Read a folder of final fits as cell -> seed -> fit; a missing folder has none.

    Raises:
        InputError: a file is not JSON, or lacks one of the fields needed.
    """
    fits: defaultdict[str, dict[int, FinalFit]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        fit = _read(path)
        fits[cell_name(fit.partition, fit.method)][fit.seed] = fit
    return {cell: dict(sorted(by_seed.items())) for cell, by_seed in fits.items()}


def cell_name(partition: float, method: str) -> str:
    """Name a cell as the journal does: `10/llrd`."""
    return f"{partition:g}/{method}"


def _read(path: Path) -> FinalFit:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if missing := sorted(REQUIRED - record.keys()):
        raise InputError(f"{path} lacks {', '.join(missing)}")
    for name, scored in (record.get("extra") or {}).items():
        if missing := sorted({"accuracy", "predictions"} - scored.keys()):
            raise InputError(f"{path}: extra.{name} lacks {', '.join(missing)}")
    return FinalFit(**{f.name: record[f.name] for f in fields(FinalFit) if f.name in record})
