"""What is known of one trial."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from records import End, TrialReport
from search_spaces import Params

DEFAULT_ORIGIN = "default"
"""The origin of a cell's first trial, the recipe's default."""
SAMPLER = "sampler"
"""The origin of a configuration that the sampler proposed."""
FROM_PARTITION = "partition "
"""Begins the origin of a configuration that did well at a smaller partition."""


@dataclass
class TrialRecord:
    """One trial of a cell; it started from the head of the probe with the settings `probe`.

    Attributes:
        origin: who proposed it: `default`, `sampler` or `partition 10`.
        reports: samples seen to prospect there.
        best: the report with the highest score.
        ended: completed, stopped, diverged, failed or cut; None while it runs, waits at a rung, or
            is to be proposed again. `CellSearch.status` says which.
        samples: training samples seen.
        seconds: time for which it held its slot.
        first: samples and seconds at its first report.
    """

    config: Params
    probe: Params | None = None
    origin: str = SAMPLER
    reports: dict[int, float] = field(default_factory=dict)
    best: TrialReport | None = None
    ended: End | None = None
    samples: int = 0
    seconds: float = 0.0
    first: tuple[int, float] = (0, 0.0)

    @property
    def score(self) -> float:
        """The highest score that it reported; minus infinity without a report."""
        return self.best.score if self.best else -math.inf
