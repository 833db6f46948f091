"""Warnings: what makes a run's figures worth less than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from errors import one_line
from records.final_fit import cell_name
from records.history import is_zero_shot
from report.formatting import listed
from report.run import Run

NAMED = 3  # cells, of those that share a warning; the others are counted
FEW_IMAGES = 100  # of a test split: with fewer, one image is more than a point


def warning_lines(run: Run) -> list[str]:
    """Return the warnings that a reader of the table needs, a line a string."""
    return list(chain(_few_images(run), _failed_fits(run), _one_seed(run), _seen_before(run)))


def duplicates_between(run: Run, *, tested: bool) -> str:
    """Count duplicates by pair of splits, of pairs with or without a set that is tested on."""
    tests = {"test", *run.extra_tests}
    table = run.duplicates
    pairs = Counter(zip(table["kind"], table["split_a"], table["split_b"], strict=True))
    return ", ".join(
        f"{count} {kind} between {a} and {b}"
        for (kind, a, b), count in pairs.items()
        if bool({a, b} & tests) == tested
    )


def _few_images(run: Run) -> Iterator[str]:
    images = {fit.n_test for cell in run.cells() for fit in run.final_fits(*cell)}
    if images and min(images) < FEW_IMAGES:
        yield f"only {min(images)} test images: each is {100 / min(images):.1f} points of accuracy"


def _one_seed(run: Run) -> Iterator[str]:
    """Name the cells with one draw of the training images; zero-shot draws none."""
    counts = {
        cell_name(*cell): len(fits)
        for cell in run.cells()
        if (fits := run.final_fits(*cell)) and not _is_zero_shot(run, *cell)
    }
    alone = [name for name, count in counts.items() if count == 1]
    if alone and len(alone) == len(counts):
        yield "one final seed: intervals do not cover the draw of the training images"
    elif alone:
        more = [f"{len(alone) - NAMED} more"] if len(alone) > NAMED else []
        yield (
            f"one final seed of {listed([*alone[:NAMED], *more])}: "
            "intervals there do not cover the draw of the training images"
        )


def _is_zero_shot(run: Run, partition: float, method: str) -> bool:
    winner = run.winner(partition, method)
    return winner is not None and is_zero_shot(winner.config)


def _failed_fits(run: Run) -> Iterator[str]:
    """Tell what each cell's mean is of, where final fits failed."""
    for cell in run.cells():
        if not (reasons := run.failures(*cell)):
            continue
        made = len(run.final_fits(*cell))
        asked = run.seeds or made + len(reasons)
        rest = {0: "it has no result", 1: "its figure is the other one alone"}
        yield (
            f"{len(reasons)} of {asked} final fits of {cell_name(*cell)} failed "
            f"({one_line('; '.join(dict.fromkeys(reasons)))}): "
            f"{rest.get(made, 'its figure is the mean of the others')}"
        )


def _seen_before(run: Run) -> Iterator[str]:
    if shared := duplicates_between(run, tested=True):
        yield (
            f"images that are tested on were seen before, so accuracies may be too high: {shared} "
            "(duplicates.csv)"
        )
