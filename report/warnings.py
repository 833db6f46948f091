"""The warnings under the table: what makes a run's figures less reliable than they look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any

from errors import one_line
from records import LOST, TEST, Cell
from report.formatting import listed
from report.run import Run

NAMED = 3  # cells that a warning names; it counts the others
FEW_IMAGES = 100  # in a test split with fewer, one image is more than a point of accuracy

NOT_COVERED = "intervals do not cover the draw of the training images"


def warnings(run: Run) -> list[str]:
    """Return the warnings that a reader of the table needs."""
    found = (_few_images(run), _failed_fits(run), _one_seed(run), _duplicates(run), _versions(run))
    return list(chain(*found))


def without_result(run: Run) -> Iterator[str]:
    """Name the cells that have no result, each reason's together."""
    for name in run.waiting:
        yield f"There is no result for {name}: it has not begun; --resume goes on"
    alike: dict[str, list[Cell]] = {}
    for cell in run.cells():
        if not run.final_fits(*cell):
            alike.setdefault(_why_no_result(run, cell), []).append(cell)
    for why, cells in alike.items():
        yield f"There is no result for {listed([str(cell) for cell in cells])}: {why}"


def _why_no_result(run: Run, cell: Cell) -> str:
    """Give the commonest reason of what failed last: final fits, or trials."""
    if fits := run.failures(*cell):
        return f"its final fits failed: {_commonest(fits)}"
    if run.winner(*cell):
        return "its final fits are not made"
    trials = run.trials(*cell)
    lost = [trial.reason or trial.status for trial in trials if trial.status in LOST]
    if not trials:
        return "no trial was made; --resume makes them, given the time"
    if len(lost) < len(trials):
        return "its search has no winner yet"
    return f"all its trials failed, most often: {_commonest(lost)}"


def _commonest(reasons: Sequence[str]) -> str:
    return one_line(Counter(reasons).most_common(1)[0][0])


def duplicates_between(run: Run, *, tested: bool) -> str:
    """Count the duplicates of each pair of splits with a test set (`tested`), or without one.

    Those of two classes are not among them: they have a warning of their own. Nor are files that
    are in one split twice, as these make no score too high.
    """
    tests = {TEST, *run.extra_tests}
    return _counted(
        row
        for row in _listed(run)
        if row.class_a == row.class_b
        and row.split_a != row.split_b
        and bool({row.split_a, row.split_b} & tests) == tested
    )


def _listed(run: Run) -> Iterator[Any]:
    """Yield the rows of `duplicates.csv`, with an attribute for each column."""
    yield from run.duplicates.itertuples()


def _counted(duplicates: Iterable[Any]) -> str:
    pairs = Counter((row.kind, row.split_a, row.split_b) for row in duplicates)
    return ", ".join(
        f"{count} {kind} duplicate{'' if count == 1 else 's'} "
        + (f"in {a}" if a == b else f"between {a} and {b}")
        for (kind, a, b), count in pairs.items()
    )


def _few_images(run: Run) -> Iterator[str]:
    images = {fit.n_test for cell in run.cells() for fit in run.final_fits(*cell)}
    if images and min(images) < FEW_IMAGES:
        yield (
            f"The test split has only {min(images)} images: "
            f"each is {100 / min(images):.1f} points of accuracy"
        )


def _one_seed(run: Run) -> Iterator[str]:
    """Name the cells with a single final seed; zero-shot needs no more."""
    counts = {
        str(cell): len(fits)
        for cell in run.cells()
        if (fits := run.final_fits(*cell))
        and not ((winner := run.winner(*cell)) and winner.kind == "zero_shot")
    }
    alone = [name for name, count in counts.items() if count == 1]
    if alone and len(alone) == len(counts):
        yield f"There is one final seed: {NOT_COVERED}"
    elif alone:
        more = [f"{len(alone) - NAMED} more"] if len(alone) > NAMED else []
        verb = "has" if len(alone) == 1 else "have"
        yield f"{listed([*alone[:NAMED], *more])} {verb} one final seed: {NOT_COVERED}"


def _failed_fits(run: Run) -> Iterator[str]:
    """Name the cells whose final fits failed, and what those cells show instead."""
    for cell in run.cells():
        reasons, made = run.failures(*cell), len(run.final_fits(*cell))
        if not (reasons and made):
            continue
        asked = run.planned(cell.partition) or made + len(reasons)
        rest = {1: "the cell shows the other one alone"}
        yield (
            f"{len(reasons)} of {asked} final fits of {cell} failed "
            f"({one_line('; '.join(dict.fromkeys(reasons)))}): "
            f"{rest.get(made, 'the cell shows the mean of the others')}"
        )


def _duplicates(run: Run) -> Iterator[str]:
    if run.test_labels and not run.sought_duplicates:
        yield "Duplicates were not looked for, and may make accuracies too high; --resume looks"
    if shared := duplicates_between(run, tested=True):
        yield (
            "Test images have duplicates in other splits, so accuracies may be too high: "
            f"{shared} (duplicates.csv)"
        )
    contradicting = (row for row in _listed(run) if row.class_a != row.class_b)
    if contradictions := _counted(contradicting):
        yield (
            "The same images have two classes, so labels contradict each other and accuracies may "
            f"be too low: {contradictions} (duplicates.csv)"
        )


def _versions(run: Run) -> Iterator[str]:
    """Name what had other versions when the run was started or resumed."""
    starts = run.history.versions
    found = {name: [start.get(name, "none") for start in starts] for name in chain(*starts)}
    differ = [
        f"{name} {', then '.join(version for version, _ in groupby(each))}"
        for name, each in found.items()
        if len({*each}) > 1
    ]
    if differ:
        yield f"The run went on with other versions than it began with: {'; '.join(differ)}"
