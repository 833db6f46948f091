"""What every scheduler does: decide which trials of a cell go on, and which are stopped."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


class Scheduler:
    """Judges the trials of one cell at its rungs. This one lets all run to the horizon.

    A trial is a number here, and a rung is a milestone at which trials are compared. When a trial
    reports, the search calls `record`. If the trial waits then, the search calls `start` where
    `admits` lets it go on at once, and pauses it otherwise. Whenever a slot is free, the search
    takes up the `promotable` trial. Trials that are `hopeless` are stopped.

    Args:
        settings: the scheduler's section of `search`.
        rungs: their milestones, in samples.
        trials: numbers of the trials that the budget allows.
        skips: whether some trials may be judged from a later rung on.
    """

    def __init__(
        self, settings: Any, rungs: tuple[int, ...], trials: Collection[int], skips: bool = False
    ) -> None:
        self.settings, self.milestones = settings, rungs
        self.trials, self.skips = frozenset(trials), skips

    @staticmethod
    def rungs(settings: Any, horizon: int, images: int) -> tuple[int, ...]:
        """Return the milestones of the rungs, in samples; the last is the horizon.

        `images` are the training images of the cell's partition, augmented copies not counted.
        """
        return (horizon,)

    def start(self, trial: int, judged_from: float = 0) -> None:
        """Take note of a trial that starts, or goes on from the rung at which it waits.

        Rungs before `judged_from` samples neither record nor stop the trial; with infinity, no rung
        does. It counts at the first start.
        """

    def record(self, milestone: int, trial: int, score: float) -> None:
        """Take note of the score of a running trial.

        Nothing changes at a milestone that is no rung of the trial, or that it reported before:
        a trial that is taken up again repeats its last report.
        """

    def waits(self, trial: int) -> bool:
        """Whether a rung recorded the trial, and it has neither gone on nor ended since."""
        return False

    def admits(self, trial: int) -> bool:
        """Whether a trial that waits may go on now."""
        return True

    def end(self, trial: int) -> None:
        """Take note of a trial that has ended; what it recorded stays."""

    def hopeless(self) -> list[int]:
        """Return the waiting trials that will never go on."""
        return []

    def promotable(self) -> int | None:
        """Return the waiting trial that should go on next; None if none may."""
        return None
