"""What the run cost, and how to make it again."""

from __future__ import annotations

from typing import Any

from partitions import titled
from records import EXPERIMENT
from report.device_seconds import Cost, row_cost
from report.html.words import percent
from report.run import Run


def reproduce(run: Run) -> dict[str, Any]:
    """Return the costs of each row, the seconds of each stage, versions and commands."""
    costs = {titled(partition): row_cost(run, partition) for partition in run.partitions}
    total = sum(costs.values(), Cost())
    saved = total.saved / (total.saved + total.search) if total.search else 0.0
    versions = run.history.versions[-1] if run.history.versions else {}
    return {
        "costs": [(name, cost) for name, cost in costs.items() if cost.spent],
        "total": total,
        "saved": percent(saved, 0),
        "stages": [*run.history.stages.items()],
        "versions": [*versions.items()],
        "seed": run.history.seed,
        "experiment": EXPERIMENT,
    }
