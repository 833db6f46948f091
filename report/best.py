"""The best method of a partition, as validation chooses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import hypot, inf, sqrt
from statistics import fmean, stdev
from types import MappingProxyType

import numpy as np

from partitions import Partition
from records import Cell, FinalFitResult, Winner

WITHIN = 0.5  # standard errors: what is no more accurate than that is chosen by its cost
Fits = Mapping[int, FinalFitResult]


def best_methods(
    winners: Mapping[Cell, Winner],
    fits: Mapping[Cell, Fits],
    serving: Mapping[str, float] = MappingProxyType({}),
) -> dict[Partition, str]:
    """Return the best method of every partition whose final fits are there.

    Args:
        winners: in the order of the table.
        fits: the final fits of each cell by seed.
        serving: what each method's encoder takes to run, where they have several.
    """
    rows: dict[Partition, dict[str, tuple[Winner, Fits]]] = {}
    for cell, winner in winners.items():
        if fits.get(cell):
            rows.setdefault(cell.partition, {})[cell.method] = winner, fits[cell]
    found = {partition: best_method(row, serving) for partition, row in rows.items()}
    return {partition: best for partition, best in found.items() if best}


def best_method(
    candidates: Mapping[str, tuple[Winner, Fits]],
    serving: Mapping[str, float] = MappingProxyType({}),
) -> str | None:
    """Choose among methods by their final fits' validation accuracy.

    Of the methods within half a standard error of the most accurate one, it is the cheapest to
    serve (`serving`, then `cost`), then the more accurate one. (On the built-in default a whole
    standard error costs 0.5 points of test accuracy on average, and half of it nothing.) The first
    seed, whose draw the search chose its winners on, is left out where all have others. No test
    image has a part in it.

    Args:
        candidates: each method's winner and final fits by seed, in the order of the table.
        serving: as `best_methods` takes it.
    """
    seeds = (
        set.intersection(*(set(fits) for _, fits in candidates.values())) if candidates else set()
    )
    seeds = seeds - {0} or seeds
    if not seeds:
        return None
    accuracy = {
        method: fmean(fits[seed].val_accuracy for seed in seeds)
        for method, (_, fits) in candidates.items()
    }
    leader = max(accuracy, key=accuracy.__getitem__)
    best = [candidates[leader][1][seed] for seed in seeds]
    alike = []
    for method, (winner, fits) in candidates.items():
        lag, error = difference(best, [fits[seed] for seed in seeds])
        if lag <= WITHIN * error:
            costs = serving.get(method, 0.0), cost(winner)
            alike.append((*costs, -accuracy[method], method))
    return min(alike, key=lambda found: found[:-1])[-1]


def cost(winner: Winner) -> float:
    """Rank what a winner takes to train and to serve: nothing, a head, or blocks, by their number.

    Blocks that nobody trained can be shared with other classifiers.
    """
    blocks = str(winner.config.get("blocks", "none"))
    if winner.kind != "tuned":
        return float(winner.kind == "probe")
    if count := blocks.partition("last ")[2]:
        return 1.0 + int(count)
    if span := re.fullmatch(r"(\d+)(?:-(\d+))?", blocks):
        first, last = int(span[1]), int(span[2] or span[1])
        return 2.0 + abs(first - last)
    return inf if blocks == "all" else 1.5


def difference(ones: list[FinalFitResult], others: list[FinalFitResult]) -> tuple[float, float]:
    """Return how much more accurate some fits are on validation, and its standard error.

    Both lists are of the same seeds. The error is that of the draw of validation images, paired by
    image, and of the draws of training images, paired by seed.
    """
    means = [a.val_accuracy - b.val_accuracy for a, b in zip(ones, others, strict=True)]
    images = fmean(_error(a, b) for a, b in zip(ones, others, strict=True))
    seeds = stdev(means) / sqrt(len(means)) if len(means) > 1 else 0.0
    return fmean(means), hypot(images, seeds)


def _error(a: FinalFitResult, b: FinalFitResult) -> float:
    """Return the standard error of the difference of two fits by the validation images."""
    if a.n_val < 2:
        return 0.0
    apart = np.array(a.val_correct, dtype=float) - np.array(b.val_correct, dtype=float)
    return float(apart.std(ddof=1)) / sqrt(a.n_val)
