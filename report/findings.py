"""What the table shows, in plain sentences; a difference is shown if its interval leaves out 0."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain, pairwise, takewhile

from records.final_fit import TEST
from report.formatting import listed
from report.intervals import Interval
from report.run import Run
from report.scores import Scores, mean_of

MARGINS = (0.01, 0.02, 0.05)  # of accuracy: so little is not worth more images


def sentences(run: Run) -> list[str]:
    """Return what the test split shows of each method against the baseline."""
    if run.baseline is None:
        return []
    found = chain(
        _at_each_partition(run, run.baseline),
        in_the_mean(run, run.baseline),
        *(_enough(run, method) for method in dict.fromkeys([run.compared, run.baseline]) if method),
        _as_data_grows(run, run.baseline),
    )
    return list(dict.fromkeys(found))  # the mean over one partition says nothing new


def in_the_mean(run: Run, baseline: str, test_set: str = TEST) -> Iterator[str]:
    """Compare every other method with the baseline, in the mean over their partitions."""
    for method in run.methods:
        pairs = {
            partition: (ours, theirs)
            for partition in run.partitions
            if (ours := run.scores(partition, method, test_set))
            and (theirs := run.scores(partition, baseline, test_set))
        }
        if method != baseline and (means := _means(pairs.values())):
            difference = means[0].minus(means[1])
            where = f"in the mean over {len(pairs)} partitions"
            if len(pairs) == 1:
                where = f"at {next(iter(pairs)):g}%"
            if difference:
                yield _one(where, method, baseline, difference)


def drop_line(run: Run, test_set: str) -> str | None:
    """Say how much each method loses from the test split to a further set of images."""
    changes = []
    for method in run.methods:
        pairs = [
            (extra, main)
            for partition in run.partitions
            if (extra := run.scores(partition, method, test_set))
            and (main := run.scores(partition, method))
        ]
        if (means := _means(pairs)) and (change := means[0].minus_unpaired(means[1])):
            changes.append(f"{method} {change.points('+')}")
    if not changes:
        return None
    return f"from test to {test_set}, in the mean over partitions: {', '.join(changes)} points"


def _means(pairs: Collection[tuple[Scores, Scores]]) -> tuple[Scores, Scores] | None:
    """Return the mean of each side of the pairs; None without pairs or seeds in common."""
    ours, theirs = mean_of([pair[0] for pair in pairs]), mean_of([pair[1] for pair in pairs])
    return (ours, theirs) if ours and theirs else None


def _at_each_partition(run: Run, baseline: str) -> Iterator[str]:
    """Compare the method whose gain is shown: partitions of one outcome share a sentence."""
    if (method := run.compared) is None or method == baseline:
        return
    differences = {
        partition: difference
        for partition in run.partitions
        if (difference := run.difference(partition, method, baseline))
    }
    shown = {partition: d for partition, d in differences.items() if d.shown}
    for sign in (1, -1):
        told = {partition: d for partition, d in shown.items() if d.mean * sign > 0}
        if len(told) > 1:
            yield _several(told, method, baseline)
        else:
            yield from (_one(f"at {p:g}%", method, baseline, d) for p, d in told.items())
    rest = {partition: d for partition, d in differences.items() if not d.shown}
    if len(rest) > 1:
        where = f"at {listed([f'{partition:g}' for partition in rest])}% no"
        if rest == differences:
            where = f"at none of the {len(rest)} partitions a"
        yield f"{where} difference between {method} and {baseline} is shown"
    else:
        yield from (_one(f"at {p:g}%", method, baseline, d) for p, d in rest.items())


def _several(differences: Mapping[float, Interval], method: str, baseline: str) -> str:
    """Tell gains at several partitions, or losses at several."""
    verb = _verb(next(iter(differences.values())))
    amounts = [
        f"{_amount(d)} at {partition:g}% ({_ends(d)})" for partition, d in differences.items()
    ]
    return f"{method} {verb} {baseline}, in points: {listed(amounts)}"


def _one(where: str, method: str, baseline: str, difference: Interval) -> str:
    """Tell one difference, shown or not."""
    if difference.shown:
        verb, against = _verb(difference).split()
        points = f"{_amount(difference)} points"
        return f"{where} {method} {verb} {points} {against} {baseline} ({_ends(difference)})"
    told = _bracketed(difference)
    return f"{where} no difference between {method} and {baseline} is shown {told}"


def _enough(run: Run, method: str) -> Iterator[str]:
    """Say from which partition on more images bring little, as the interval bounds it.

    That a gain is not shown says nothing of how many images are enough: the less a run can see, the
    fewer there would be. So its interval must end below a margin, at the partition and at all
    larger ones (a test of equivalence: Schuirmann 1987), the smallest margin that one meets.
    """
    found = _by_size(run, method)
    *smaller, largest = found or [0.0]
    gains = {
        partition: gain
        for partition in smaller
        if (gain := found[largest].minus(found[partition])) and gain.known
    }
    if method == run.zero_shot or len(gains) < max(1, len(smaller)):
        return
    for margin in MARGINS:
        if bounded := _bounded(gains, margin):
            amount = f"{bounded[-1]:g}% ({_images(run, bounded[-1], method)} images) on"
            points = f"{100 * margin:g} point{'' if margin == MARGINS[0] else 's'}"
            told = _bracketed(gains[bounded[-1]])
            yield f"from {amount} more images bring {method} at most {points} {told}"
            return
    last = gains[smaller[-1]]
    step = f"{smaller[-1]:g} to {largest:g}%"
    if all(gain.shown and gain.mean > 0 for gain in gains.values()):
        points = f"{_amount(last)} points from {step} ({_ends(last)})"
        more = f"more than {_images(run, largest, method)} images may help"
        yield f"{method} gains to the end, {points}: {more}"
    else:
        points = f"{100 * last.high:.1f} points {_bracketed(last)}"
        yield f"how many images {method} needs is not shown: {step} may bring {points}"


def _bounded(gains: dict[float, Interval], margin: float) -> list[float]:
    """Return the partitions, from the largest down, to which more images add no more than that."""
    return list(takewhile(lambda partition: gains[partition].high <= margin, reversed(gains)))


def _images(run: Run, partition: float, method: str) -> int:
    return run.final_fits(partition, method)[0].n_train


def _by_size(run: Run, method: str) -> dict[float, Scores]:
    """Return a method's scores by partition, the smallest first."""
    return {
        partition: scores
        for partition in sorted(run.partitions)
        if (scores := run.scores(partition, method))
    }


def _as_data_grows(run: Run, baseline: str) -> Iterator[str]:
    """Say whether the baseline falls from one partition to the next larger one."""
    found = _by_size(run, baseline)
    changes = {
        (low, high): change
        for low, high in pairwise(found)
        if (change := found[high].minus(found[low])) and change.known
    }
    falls = {pair: change for pair, change in changes.items() if change.shown and change.mean < 0}
    for (low, high), change in falls.items():
        points = f"{_amount(change)} points ({_ends(change)})"
        yield f"{baseline} falls from {low:g} to {high:g}% by {points}"
    if changes and not falls:
        yield f"{baseline} never falls by more than its interval as data grows"


def _verb(difference: Interval) -> str:
    return "gains over" if difference.mean > 0 else "loses to"


def _bracketed(difference: Interval) -> str:
    """Write a difference that may be of either sign, `(+0.3, -0.5 to 1.1)`."""
    numbers = f"{100 * difference.mean:+.1f}"
    return f"({numbers}, {difference.ends()})" if difference.known else f"({numbers})"


def _amount(difference: Interval) -> str:
    return f"{100 * abs(difference.mean):.1f}"


def _ends(difference: Interval) -> str:
    """Write the ends of a gain, or of a loss as a loss."""
    return (difference if difference.mean > 0 else difference.negative()).ends()
