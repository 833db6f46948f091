"""The findings: what the table shows. A difference is shown if its interval leaves out zero."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain, pairwise, permutations

from partitions import Partition, titled
from records import BEST, TEST
from report.enough import by_size, enough, images_of
from report.formatting import amounts, listed
from report.intervals import Interval
from report.run import Run
from report.scores import Scores, mean_of


def findings(run: Run) -> list[str]:
    """Return what the test split shows about each method against the baseline of its encoder."""
    if run.parts:
        return [f"{name}: {line}" for name, part in run.parts.items() for line in findings(part)]
    if run.baseline is None:
        return []
    lines = chain(
        _best(run),
        _at_each_partition(run, run.compared, run.baseline),
        average_findings(run, run.baseline),
        _over_defaults(run),
        *(_enough(run, method) for method in dict.fromkeys([run.compared, run.baseline]) if method),
        _as_data_grows(run, run.baseline),
    )
    return list(dict.fromkeys(lines))  # the average over one partition repeats its finding


def average_findings(run: Run, baseline: str, test_set: str = TEST) -> Iterator[str]:
    """Compare every other method with the baseline, averaged over their common partitions."""
    for method in run.methods:
        found = _on_average(run, run.partitions, method, baseline, test_set)
        if method != baseline and found:
            where, difference = found
            if method == run.zero_shot and difference.mean <= 0 and test_set == TEST:
                continue  # `best` is compared with it
            yield _one(where, method, baseline, difference)


def _over_defaults(run: Run) -> Iterator[str]:
    """Say what each search gained over its method's default, if another method is that default."""
    for method, default in permutations(run.methods, 2):
        same = [p for p in run.partitions if run.is_default(p, method, default)]
        if found := _on_average(run, same, method, default):
            where, difference = found
            yield _one(where, f"the search of {method}", f"its default ({default})", difference)


def _on_average(
    run: Run, partitions: Collection[Partition], ours: str, theirs: str, test_set: str = TEST
) -> tuple[str, Interval] | None:
    """Return the mean difference of two methods over partitions that have both, and where it is."""
    pairs = {
        partition: (a, b)
        for partition in partitions
        if (a := run.scores(partition, ours, test_set))
        and (b := run.scores(partition, theirs, test_set))
    }
    means = _means(pairs.values())
    if means is None or (difference := means[0].minus(means[1])) is None:
        return None
    if len(pairs) == 1:
        return f"at {titled(next(iter(pairs)))}", difference
    return f"on average over {len(pairs)} partitions", difference


def drop_finding(run: Run, test_set: str) -> str | None:
    """Say how each method's accuracy changes from the test split to a further test set."""
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
    where = f"From test to {test_set}, on average over partitions, accuracy changes by (points)"
    return f"{where}: {', '.join(changes)}"


def _means(pairs: Collection[tuple[Scores, Scores]]) -> tuple[Scores, Scores] | None:
    """Average each side of the pairs; None without pairs or seeds in common."""
    ours, theirs = mean_of([pair[0] for pair in pairs]), mean_of([pair[1] for pair in pairs])
    return (ours, theirs) if ours and theirs else None


def _best(run: Run) -> Iterator[str]:
    """Compare the best method of each partition with zero-shot."""
    if run.zero_shot is not None:
        yield from _compared(
            BEST,
            run.zero_shot,
            {
                partition: difference
                for partition, best in run.best.items()
                if best != run.zero_shot
                and (difference := run.difference(partition, best, run.zero_shot))
            },
        )


def _at_each_partition(run: Run, method: str | None, baseline: str) -> Iterator[str]:
    """Compare the method whose gain is shown with the baseline."""
    if method is None or method == baseline:
        return
    differences = {
        partition: difference
        for partition in run.partitions
        if (difference := run.difference(partition, method, baseline))
    }
    yield from _compared(method, baseline, differences)


def _compared(
    method: str, baseline: str, differences: Mapping[Partition, Interval]
) -> Iterator[str]:
    """Say what is shown at which partition; those with one outcome share a sentence."""
    shown = {partition: d for partition, d in differences.items() if d.shown}
    for sign in (1, -1):
        same = {partition: d for partition, d in shown.items() if d.mean * sign > 0}
        if len(same) > 1:
            yield _several(same, method, baseline)
        else:
            yield from (_one(f"at {titled(p)}", method, baseline, d) for p, d in same.items())
    rest = {partition: d for partition, d in differences.items() if d.known and not d.shown}
    if len(rest) > 1:
        where = f"at {amounts([*rest])}"
        if rest == differences:
            where = f"at any of the {len(rest)} partitions"
        yield f"No difference between {method} and {baseline} is shown {where}"
    else:
        yield from (_one(f"at {titled(p)}", method, baseline, d) for p, d in rest.items())
    if untested := [partition for partition, d in differences.items() if not d.known]:
        yield _untested(f"at {amounts(untested)}", method, baseline)


def _untested(where: str, method: str, baseline: str) -> str:
    return f"{method} and {baseline} cannot be compared {where}: it takes two final seeds"


def _several(differences: Mapping[Partition, Interval], method: str, baseline: str) -> str:
    verb = _verb(next(iter(differences.values())))
    points = [
        f"{_amount(d)} at {titled(partition)} ({_ends(d)})" for partition, d in differences.items()
    ]
    return f"{method} {verb} {baseline}, in points: {listed(points)}"


def _one(where: str, method: str, baseline: str, difference: Interval) -> str:
    if difference.shown:
        verb, against = _verb(difference).split()
        points = f"{_amount(difference)} points"
        return f"{method} {verb} {points} {against} {baseline} {where} ({_ends(difference)})"
    if not difference.known:
        return _untested(where, method, baseline)
    numbers = _bracketed(difference)
    return f"No difference between {method} and {baseline} is shown {where} {numbers}"


def _enough(run: Run, method: str) -> Iterator[str]:
    """Say from which partition on more images gain little."""
    if (found := enough(run, method)) is None:
        return
    if found.start is not None:
        start = f"From {titled(found.start)} ({images_of(run, found.start, method)} images) on"
        numbers = _bracketed(found.gains[found.start])
        yield f"{start}, more images bring {method} at most {found.at_most} {numbers}"
        return
    last = found.last
    step = f"{titled([*found.gains][-1])} to {titled(found.largest)}"
    if found.rising:
        points = f"{_amount(last)} points from {step} ({_ends(last)})"
        more = f"more than {images_of(run, found.largest, method)} images may help"
        yield f"{method} still gains {points}: {more}"
    else:
        points = f"{100 * last.high:.1f} points {_bracketed(last)}"
        yield f"How many images {method} needs is not shown: from {step} it may gain {points}"


def _as_data_grows(run: Run, baseline: str) -> Iterator[str]:
    """Say whether the baseline falls from one partition to the next larger one."""
    found = by_size(run, baseline)
    changes = {
        (low, high): change
        for low, high in pairwise(found)
        if (change := found[high].minus(found[low])) and change.known
    }
    falls = {pair: change for pair, change in changes.items() if change.shown and change.mean < 0}
    for (low, high), change in falls.items():
        points = f"{_amount(change)} points"
        yield f"{baseline} falls by {points} from {titled(low)} to {titled(high)} ({_ends(change)})"
    if changes and not falls:
        yield f"{baseline} is nowhere shown to fall as data grows"


def _verb(difference: Interval) -> str:
    return "gains over" if difference.mean > 0 else "loses to"


def _bracketed(difference: Interval) -> str:
    """Write a difference of either sign and its interval, `(+0.3, -0.5 to 1.1)`."""
    numbers = f"{100 * difference.mean:+.1f}"
    return f"({numbers}, {difference.ends()})" if difference.known else f"({numbers})"


def _amount(difference: Interval) -> str:
    return f"{100 * abs(difference.mean):.1f}"


def _ends(difference: Interval) -> str:
    """Write the interval of a gain, or of a loss as a positive number."""
    return (difference if difference.mean > 0 else difference.negative()).ends()
