"""What a run cost, in device-seconds: the time its trials and final fits held their slots.

Features, which all trials share, are not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from report.run import Run


@dataclass(frozen=True)
class Cost:
    """Device-seconds of the search and of the final fits, and those early stopping saved."""

    search: float = 0.0
    final: float = 0.0
    saved: float = 0.0

    @property
    def spent(self) -> float:
        return self.search + self.final

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.search + other.search, self.final + other.final, self.saved + other.saved)


def cost_of(run: Run, partition: float, method: str) -> Cost:
    """Return the cost of a cell.

    A stopped trial has saved what the samples up to its method's horizon, the most that any of
    its trials saw, would have taken at the trial's own pace.
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


def row_cost(run: Run, partition: float) -> Cost:
    """Return the cost of a row of the table."""
    return sum((cost_of(run, partition, method) for method in run.methods), Cost())


def cost_lines(run: Run) -> Iterator[str]:
    """Say what device-seconds count, and what early stopping saved."""
    total = sum((row_cost(run, partition) for partition in run.partitions), Cost())
    if total.spent:
        yield (
            f"device-seconds: {total.search:.0f} in trials and {total.final:.0f} in final fits, "
            "features apart"
        )
    if total.saved:
        share = total.saved / (total.saved + total.search)
        yield f"early stopping saved {100 * share:.0f}% of the search's device-seconds"
