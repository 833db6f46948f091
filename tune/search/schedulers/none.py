"""No scheduler: every trial runs to the horizon."""

from __future__ import annotations

from typing import Any

from tune.search.schedulers.base import Scheduler


class FullHorizon(Scheduler):
    """Stops no trial."""

    @staticmethod
    def rungs(settings: Any, horizon: int, images: int) -> tuple[int, ...]:
        """Return the horizon alone."""
        return (horizon,)

    def start(self, trial: int, judged_from: float = 0) -> None:
        """Do nothing."""

    def record(self, milestone: int, trial: int, score: float) -> None:
        """Do nothing."""

    def waits(self, trial: int) -> bool:
        """Return False: no trial waits."""
        return False

    def admits(self, trial: int) -> bool:
        """Return True: every trial goes on."""
        return True

    def end(self, trial: int) -> None:
        """Do nothing."""

    def hopeless(self) -> list[int]:
        """Return no trial."""
        return []
