"""Warnings: what makes a run's figures worth less than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from report.run_files import Run

FEW_IMAGES = 100  # of a test split: with fewer, one image is more than a point


def warning_lines(run: Run) -> list[str]:
    """Return the warnings that a reader of the table needs, a line a string."""
    return list(chain(_few_images(run), _one_seed(run), _seen_before(run)))


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
    images = {fit.n_test for group in run.groups() for fit in run.final_fits(*group)}
    if images and min(images) < FEW_IMAGES:
        yield f"only {min(images)} test images: each is {100 / min(images):.1f} points of accuracy"


def _one_seed(run: Run) -> Iterator[str]:
    counts = [len(run.final_fits(*group)) for group in run.groups()]
    if max(counts, default=0) == 1:
        yield "one final seed: intervals do not cover the draw of the training images"


def _seen_before(run: Run) -> Iterator[str]:
    if shared := duplicates_between(run, tested=True):
        yield (
            f"images that are tested on were seen before, so accuracies may be too high: {shared} "
            "(duplicates.csv)"
        )
