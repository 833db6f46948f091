"""How many images are enough: from which partition on more of them bring a method little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from partitions import Partition, Shots
from report.intervals import Interval
from report.run import Run
from report.scores import Scores

MARGINS = (0.01, 0.02, 0.05)  # of accuracy: gains that may not be worth more images


@dataclass(frozen=True)
class Enough:
    """What more images bring a method.

    Attributes:
        gains: of the largest partition over each smaller one, the smallest first.
        largest: the largest partition.
        start: the first partition from which on the gain is within the margin; None if no margin
            is met.
        margin: the smallest margin that any partition meets; 0 if none does.
    """

    gains: Mapping[Partition, Interval]
    largest: Partition
    start: Partition | None = None
    margin: float = 0.0

    @property
    def last(self) -> Interval:
        """The gain of the last step."""
        return [*self.gains.values()][-1]

    @property
    def rising(self) -> bool:
        """Whether the largest partition is shown to be better than every smaller one."""
        return all(gain.shown and gain.mean > 0 for gain in self.gains.values())

    @property
    def at_most(self) -> str:
        """The margin in words: `1 point`."""
        return f"{100 * self.margin:g} point{'' if self.margin == MARGINS[0] else 's'}"


def enough(run: Run, method: str) -> Enough | None:
    """Find the partition from which on more images gain little; None if it cannot be known.

    A gain that is not shown does not prove that more images bring nothing: the run may have too
    few seeds or test images to see it. So this is an equivalence test (Schuirmann 1987): the
    interval of the gain must end below a margin, at the partition and at all larger ones. One
    that holds more than is left to gain tells nothing.
    """
    found = by_size(run, method)
    if method == run.zero_shot or len(found) < 2:
        return None
    *smaller, largest = found
    gains = {
        partition: gain
        for partition in smaller
        if (gain := found[largest].minus(found[partition])) and gain.known
    }
    if len(gains) < len(smaller):
        return None
    for margin in MARGINS:
        if bounded := _bounded(gains, margin):
            return Enough(gains, largest, bounded[-1], margin)
    found_none = Enough(gains, largest)
    to_gain = 1 - found[smaller[-1]].interval().mean
    return found_none if found_none.rising or found_none.last.high <= to_gain else None


def by_size(run: Run, method: str) -> dict[Partition, Scores]:
    """Return a method's scores, smallest partition first.

    They are those of the percentages, or of the shots where there are no two percentages: draws of
    the two kinds differ in more than their size.
    """
    found = {partition: run.scores(partition, method) for partition in comparable(run)}
    return {partition: scores for partition, scores in found.items() if scores}


def comparable(run: Run) -> Sequence[Partition]:
    """Return the partitions of one kind, smallest first: the percentages, or else the shots."""
    percents = sorted(p for p in run.partitions if not isinstance(p, Shots))
    shots = sorted(p for p in run.partitions if isinstance(p, Shots))
    return percents if len(percents) > 1 or not shots else shots


def images_of(run: Run, partition: Partition, method: str) -> int:
    """Return how many training images a cell's final fits had; it must have some."""
    return run.final_fits(partition, method)[0].n_train


def _bounded(gains: dict[Partition, Interval], margin: float) -> list[Partition]:
    """List the partitions from the largest down to the last whose gain the margin bounds."""
    return list(takewhile(lambda partition: gains[partition].high <= margin, reversed([*gains])))
