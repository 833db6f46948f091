"""The notes under the table: how to read it, what is missing from it, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from partitions import any_shots, titled
from records import LOST, TEST
from report.device_seconds import cost_notes
from report.formatting import amounts, listed, span
from report.gradients import gradient_notes
from report.intervals import RESAMPLES
from report.run import Run
from report.warnings import duplicates_between
from report.winners import winner_notes


def notes(run: Run) -> list[str]:
    """Return the notes under a run's table."""
    return list(
        chain(
            _reading(run),
            _below_baseline(run),
            _below_zero_shot(run),
            winner_notes(run),
            gradient_notes(run),
            _missing(run),
            _trials(run),
            cost_notes(run),
            _skipped(run),
            _duplicates(run),
            run.history.footnotes,
        )
    )


def _reading(run: Run) -> Iterator[str]:
    """Explain what a cell of the table shows, and what its interval covers."""
    found = [fits for cell in run.cells() if (fits := run.final_fits(*cell))]
    if not found:
        yield "There are no final fits yet"
        return
    counts = [len(fits) for fits in found]
    seeds = f"{span(counts, str)} final seed{'' if max(counts) == 1 else 's'}"
    yield f"Each cell is the mean over {seeds} ± the half-width of its 95% confidence interval"
    yield (
        "Each seed draws its partition anew from the training images; "
        "at 100% it changes only the order of samples"
    )
    if any_shots(run.partitions):
        yield "N shots are N training images of each class, or N groups where there are groups"
    images = f"{span([fit.n_test for fits in found for fit in fits], str)} test images"
    if (groups := run.test_groups.get(TEST)) is not None:
        source = f"{images} in {groups.max() + 1} groups (bootstrap over groups"
    else:
        source = f"{images} (bootstrap over test images"
    if run.test_labels:
        yield (
            "The interval combines two independent sources: the seeds (Student t) and the "
            f"{source}, {RESAMPLES} resamples)"
        )
    else:
        yield (
            "The interval covers the seeds (Student t), but not the draw of the "
            f"{images}: there is no test_images.csv"
        )
    yield (
        "Intervals are not corrected for multiple comparisons and do not include the randomness "
        "of the search"
    )
    yield (
        "Best (bold) is by the validation accuracy of the final fits: of the methods within half "
        "a standard error of the highest, the cheapest to train and to serve"
    )
    if run.compared and run.baseline:
        paired = "by seed and by image" if run.test_labels else "by seed"
        one = next(iter(run.parts.values()), run)  # each encoder's row has its own
        yield f"The gain is {one.compared} minus {one.baseline} on test, paired {paired}"


def _below_baseline(run: Run) -> Iterator[str]:
    """Name every fine-tuned winner that loses to the probe of its partition."""
    if run.baseline is None:
        return
    if run.parts:
        for name, part in run.parts.items():
            yield from (f"{name}: {line}" for line in _below_baseline(part))
        return
    for method in run.methods:
        if losses := list(_losses(run, method, run.baseline)):
            yield f"{method} is below {run.baseline} {listed(losses)}"


def _losses(run: Run, method: str, baseline: str) -> Iterator[str]:
    """Give the loss at every partition at which there is one, on test or on validation."""
    for partition in run.partitions:
        ours, probe = run.winner(partition, method), run.winner(partition, baseline)
        if not (ours and probe and ours.kind == "tuned"):
            continue
        test = run.difference(partition, method, baseline)
        differences = {
            "test": test.mean if test else 0.0,
            "validation": ours.val_accuracy - probe.val_accuracy,
        }
        points = [f"{_points(-d)} on {split}" for split, d in differences.items() if d < 0]
        if points:
            yield f"at {titled(partition)} (by {' and '.join(points)})"


def _below_zero_shot(run: Run) -> Iterator[str]:
    """Name the partitions at which training was worse than zero-shot."""
    if run.zero_shot is None:
        return
    above = []
    for method in run.methods:
        below = [
            partition
            for partition in run.partitions
            if (difference := run.difference(partition, method, run.zero_shot))
            and difference.mean < 0
        ]
        if below:
            above.append(f"{method} at {amounts(below)}")
    if above:
        yield f"On test {run.zero_shot} is above {listed(above)}"


def _missing(run: Run) -> Iterator[str]:
    """Count the final fits to make, and name cells whose final fits have different winners."""
    made = sum(len(run.final_fits(*cell)) for cell in run.cells())
    asked = sum(run.planned(cell.partition) or 0 for cell in run.cells() if run.winner(*cell))
    if made < asked:
        yield f"{made} of {asked} final fits are made; resume the run for the others"
    for cell in run.cells():
        if len({fit.fit_key for fit in run.final_fits(*cell)}) > 1:
            yield f"The final fits of {cell} have different winners; resume the run"


def _trials(run: Run) -> Iterator[str]:
    """Count the trials by how they ended."""
    counts = Counter(trial.status for trial in run.history.trials.values())
    failed = sum(counts[end] for end in LOST)
    parts = [f"stopped early: {counts['stopped']}", f"failed: {failed}"]
    parts += [f"cut by the time budget: {counts['cut']}"] if counts["cut"] else []
    parts += [f"paused: {counts['paused']}"] if counts["paused"] else []
    parts += [f"not ended: {counts['running']}"] if counts["running"] else []
    yield f"The search made {_count(counts.total(), 'trial')} ({', '.join(parts)}; see trials.csv)"


def _skipped(run: Run) -> Iterator[str]:
    if skipped := len(run.skipped):
        yield f"The run skipped {_count(skipped, 'image')} (skipped_images.csv)"


def _duplicates(run: Run) -> Iterator[str]:
    """Count the duplicates between training and validation; the others have a warning."""
    if shared := duplicates_between(run, tested=False):
        yield f"Splits share images: {shared} (duplicates.csv)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _points(fraction: float) -> str:
    points = f"{100 * fraction:.1f}"
    return "under 0.1 points" if points == "0.0" else f"{points} points"
