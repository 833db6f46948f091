"""The lines under the table: how to read it, and what it would otherwise hide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from records.final_fit import TEST, cell_name
from report.device_seconds import cost_lines
from report.formatting import listed, span
from report.gradients import gradient_lines
from report.intervals import RESAMPLES
from report.run import Run
from report.warnings import duplicates_between
from report.winners import winner_lines


def footer_lines(run: Run) -> list[str]:
    """Return the footer of a run's table, a line a string."""
    return list(
        chain(
            _reading(run),
            _below_baseline(run),
            _below_zero_shot(run),
            winner_lines(run),
            gradient_lines(run),
            _missing(run),
            _trials(run),
            cost_lines(run),
            _skipped(run),
            _duplicates(run),
            run.journal.footnotes,
        )
    )


def _reading(run: Run) -> Iterator[str]:
    """Say what a cell holds."""
    fits = [fit for cell in run.cells() for fit in run.final_fits(*cell)]
    if not fits:
        yield "no final fits yet"
        return
    counts = [len(found) for cell in run.cells() if (found := run.final_fits(*cell))]
    seeds = f"{span(counts, str)} final seed{'' if max(counts) == 1 else 's'}"
    images = f"{span([fit.n_test for fit in fits], str)} test images"
    if (groups := run.test_groups.get(TEST)) is not None:
        by_images = (
            f"and over {images} in {groups.max() + 1} groups (bootstrap over groups, {RESAMPLES} "
            "resamples), as independent sources"
        )
    elif run.test_labels:
        by_images = f"and over {images} (bootstrap, {RESAMPLES} resamples), as independent sources"
    else:
        by_images = f"not over the {images} (no test_images.csv)"
    yield (
        f"mean ± 95% interval over {seeds}, each with its own draw of the partition from the "
        "training images there are (Student t; at 100% only the order of samples is left to draw), "
        f"{by_images}; each interval alone, not corrected for how many are read, and of the "
        "configuration found: that another search may find another is in none; "
        "bold: best validation accuracy of its row"
    )
    if run.compared and run.baseline:
        paired = "by seed and by image" if run.test_labels else "by seed"
        yield f"gain: {run.compared} minus {run.baseline} on test, paired {paired}"


def _below_baseline(run: Run) -> Iterator[str]:
    """Name every fine-tuned winner that loses to the probe of its partition."""
    if run.baseline is None:
        return
    for method in run.methods:
        if losses := list(_losses(run, method, run.baseline)):
            yield f"{method} is below {run.baseline} {listed(losses)}"


def _losses(run: Run, method: str, baseline: str) -> Iterator[str]:
    """Say by how much, at every partition where it is so on test or on validation."""
    for partition in run.partitions:
        ours, probe = run.winner(partition, method), run.winner(partition, baseline)
        if not (ours and probe and ours.unfrozen):
            continue
        test = run.difference(partition, method, baseline)
        differences = {
            "test": test.mean if test else 0.0,
            "validation": ours.val_accuracy - probe.val_accuracy,
        }
        points = [f"{_points(-d)} on {split}" for split, d in differences.items() if d < 0]
        if points:
            yield f"at {partition:g}% (by {' and '.join(points)})"


def _below_zero_shot(run: Run) -> Iterator[str]:
    """Name the partitions at which training was worse than none."""
    if run.zero_shot is None:
        return
    said = []
    for method in run.methods:
        below = [
            f"{partition:g}"
            for partition in run.partitions
            if (difference := run.difference(partition, method, run.zero_shot))
            and difference.mean < 0
        ]
        if below:
            said.append(f"{method} at {listed(below)}%")
    if said:
        yield f"below {run.zero_shot} on test: {'; '.join(said)}"


def _missing(run: Run) -> Iterator[str]:
    """Name the cells without a result, and those whose final fits do not belong together."""
    missing = [cell_name(*cell) for cell in run.cells() if not run.final_fits(*cell)]
    if missing:
        yield f"no result: {', '.join(missing)}"
    made = sum(len(run.final_fits(*cell)) for cell in run.cells())
    asked = (run.seeds or 0) * sum(run.winner(*cell) is not None for cell in run.cells())
    if made < asked:
        yield f"final fits: {made} of {asked}; resume the run for the others"
    for cell in run.cells():
        if len({fit.config_id for fit in run.final_fits(*cell)}) > 1:
            yield f"{cell_name(*cell)}: its final fits are of different winners; resume the run"


def _trials(run: Run) -> Iterator[str]:
    """Count the trials by how they ended."""
    counts = Counter(trial.status for trial in run.journal.trials.values())
    failed = counts["failed"] + counts["diverged"]
    parts = [f"{counts['stopped']} stopped early", f"{failed} failed"]
    parts += [f"{counts['cut']} cut by the time budget"] if counts["cut"] else []
    parts += [f"{counts['paused']} paused"] if counts["paused"] else []
    parts += [f"{counts['running']} not ended"] if counts["running"] else []
    yield f"trials: {counts.total()}, of which {', '.join(parts)} (trials.csv)"


def _skipped(run: Run) -> Iterator[str]:
    if run.skipped:
        yield f"images skipped: {run.skipped} (skipped_images.csv)"


def _duplicates(run: Run) -> Iterator[str]:
    """Count those between splits that are not tested on; of the others there is a warning."""
    if said := duplicates_between(run, tested=False):
        yield f"duplicate images: {said} (duplicates.csv)"


def _points(fraction: float) -> str:
    points = f"{100 * fraction:.1f}"
    return "under 0.1 points" if points == "0.0" else f"{points} points"
