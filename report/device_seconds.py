"""The cost of a run in device-seconds: how long its trials and final fits held their slots.

Features are not counted, because all trials share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from partitions import Partition
from report.run import Run


@dataclass(frozen=True)
class Cost:
    """Device-seconds that the search and the final fits took, and that early stopping saved."""

    search: float = 0.0
    final: float = 0.0
    saved: float = 0.0

    @property
    def spent(self) -> float:
        """Device-seconds of the search and of the final fits."""
        return self.search + self.final

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.search + other.search, self.final + other.final, self.saved + other.saved)


def cost_of(run: Run, partition: Partition, method: str) -> Cost:
    """Return the cost of a cell.

    A stopped trial saved the samples that it had left up to the horizon, at its own pace. The
    horizon is the largest number of samples that any trial of the method saw.
    """
    trials = run.trials(partition, method)
    horizon = max((t.samples for p in run.partitions for t in run.trials(p, method)), default=0)
    saved = (
        trial.seconds * (horizon - trial.samples) / trial.samples
        for trial in trials
        if trial.status == "stopped" and trial.samples
    )
    final = sum(fit.seconds for fit in run.final_fits(partition, method))
    return Cost(sum(trial.seconds for trial in trials), final, sum(saved))


def row_cost(run: Run, partition: Partition) -> Cost:
    """Return the cost of a row of the table."""
    return sum((cost_of(run, partition, method) for method in run.methods), Cost())


def cost_notes(run: Run) -> Iterator[str]:
    """Yield the notes on device-seconds and on what early stopping saved."""
    total = sum((row_cost(run, partition) for partition in run.partitions), Cost())
    if total.spent:
        yield (
            f"Trials took {total.search:.0f} device-seconds and final fits {total.final:.0f}; "
            "features are not counted"
        )
    if total.saved:
        share = total.saved / (total.saved + total.search)
        yield f"Early stopping saved {100 * share:.0f}% of the search's device-seconds"
