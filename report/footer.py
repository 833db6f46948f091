"""The lines under the table: how to read it, and what it would otherwise hide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from statistics import fmean

from report.final_fits import FinalFit, group_name
from report.run_files import Run


def footer_lines(run: Run) -> list[str]:
    """Return the footer of a run's table, a line a string."""
    return list(
        chain(
            _reading(run),
            _below_baseline(run),
            _movement(run),
            _missing(run),
            _trials(run),
            _skipped(run),
            run.journal.footnotes,
        )
    )


def span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Write the range of some values, `40 to 180`, or the one they share."""
    low, high = show(min(values := list(values))), show(max(values))
    return low if low == high else f"{low} to {high}"


def _reading(run: Run) -> Iterator[str]:
    """Say what a cell holds."""
    fits = [fit for group in run.groups() for fit in run.final_fits(*group)]
    if not fits:
        yield "no final fits yet"
        return
    counts = [len(found) for group in run.groups() if (found := run.final_fits(*group))]
    seeds = f"{span(counts, str)} final seed{'' if max(counts) == 1 else 's'}"
    yield (
        f"mean ± 95% t-interval over {seeds}, each with its own draw of the partition "
        "(not over the draw of test images); "
        f"test images: {span((fit.n_test for fit in fits), str)}; "
        "bold: best validation accuracy of its row"
    )
    if run.compared and run.baseline:
        yield f"gain: {run.compared} minus {run.baseline} on test, paired by seed"


def _below_baseline(run: Run) -> Iterator[str]:
    """Name every fine-tuned winner that loses to the probe of its partition."""
    if run.baseline is None:
        return
    for partition, method in run.groups():
        ours, probe = run.winner(partition, method), run.winner(partition, run.baseline)
        if not (ours and probe and ours.unfrozen):
            continue
        test = run.test_difference(partition, method, run.baseline)
        differences = {
            "test": test.mean if test else 0.0,
            "validation": ours.val_accuracy - probe.val_accuracy,
        }
        losses = [f"{_points(-d)} on {split}" for split, d in differences.items() if d < 0]
        if losses:
            by = " and ".join(losses)
            yield f"at {partition:g}% {method} is below {run.baseline} by {by}"


def _movement(run: Run) -> Iterator[str]:
    """Say how far each method's winners moved the encoder, and how long they trained."""
    for method in run.methods:
        groups = [
            fits
            for partition in run.partitions
            if (winner := run.winner(partition, method)) and winner.unfrozen
            if (fits := run.final_fits(partition, method))
        ]
        moved = _means(groups, lambda fit: fit.weight_distance)
        steps = _means(groups, lambda fit: fit.steps_chosen)
        said = [f"moved {span(moved, _percent)} from their start"] if moved else []
        said += [f"best after {span(steps, '{:.0f}'.format)} steps"] if steps else []
        if said:
            yield f"{method} winners {', '.join(said)}"


def _missing(run: Run) -> Iterator[str]:
    """Name the groups without a result, and those whose final fits do not belong together."""
    missing = [group_name(*group) for group in run.groups() if not run.final_fits(*group)]
    if missing:
        yield f"no result: {', '.join(missing)}"
    for group in run.groups():
        if len({fit.config_id for fit in run.final_fits(*group)}) > 1:
            yield f"{group_name(*group)}: its final fits are of different winners; resume the run"


def _trials(run: Run) -> Iterator[str]:
    """Count the trials by how they ended."""
    counts = Counter(trial.status for trial in run.journal.trials.values())
    failed = counts["failed"] + counts["diverged"]
    parts = [f"{counts['stopped']} stopped early", f"{failed} failed"]
    parts += [f"{counts['cut']} cut by the time budget"] if counts["cut"] else []
    parts += [f"{counts['running']} not ended"] if counts["running"] else []
    yield f"trials: {counts.total()}, of which {', '.join(parts)} (trials.csv)"


def _skipped(run: Run) -> Iterator[str]:
    if run.skipped:
        yield f"images skipped: {run.skipped} (skipped_images.csv)"


def _means(
    groups: Iterable[Iterable[FinalFit]], value: Callable[[FinalFit], float | None]
) -> list[float]:
    """Return the mean over seeds of a value, for every group that has it."""
    found = ([v for fit in fits if (v := value(fit)) is not None] for fits in groups)
    return [fmean(values) for values in found if values]


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    return f"{percent:.1f}%" if percent >= 1 else f"{percent:.2g}%"


def _points(fraction: float) -> str:
    points = f"{100 * fraction:.1f}"
    return "under 0.1 points" if points == "0.0" else f"{points} points"
