"""The final fits of a run: each winner refitted with several seeds, one file a fit."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from errors import InputError


@dataclass(frozen=True)
class FinalFit:
    """What the report needs of one file; probes and zero-shot heads may lack the last two."""

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


def read_final_fits(folder: Path) -> dict[str, dict[int, FinalFit]]:
    """Read a folder of final fits as group -> seed -> fit; a missing folder has none.

    Raises:
        InputError: a file is not JSON, or lacks one of the fields needed.
    """
    fits: defaultdict[str, dict[int, FinalFit]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        fit = _read(path)
        fits[group_name(fit.partition, fit.method)][fit.seed] = fit
    return {group: dict(sorted(by_seed.items())) for group, by_seed in fits.items()}


def group_name(partition: float, method: str) -> str:
    """Name a group as the journal does: `10/llrd`."""
    return f"{partition:g}/{method}"


def _read(path: Path) -> FinalFit:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    required = {field.name for field in fields(FinalFit) if field.default is MISSING}
    if missing := sorted(required - record.keys()):
        raise InputError(f"{path} lacks {', '.join(missing)}")
    return FinalFit(**{f.name: record[f.name] for f in fields(FinalFit) if f.name in record})
