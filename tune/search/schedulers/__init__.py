"""Schedulers: which trials of a cell go on. `SCHEDULERS` names them, as `search.scheduler` does.

To add one, write a subclass of `Scheduler` in a file of its own and call `register`; a built-in one
stands in `SCHEDULERS` here and in `search_spaces.schedulers.SETTINGS` (docs/architecture.md).
"""

from __future__ import annotations

from search_spaces import SearchConfig
from search_spaces.schedulers import SETTINGS, SchedulerConfig
from tune.search.schedulers.asha import Asha
from tune.search.schedulers.base import Scheduler
from tune.search.schedulers.hyperband import Hyperband

__all__ = ["SCHEDULERS", "Scheduler", "milestones", "new_scheduler", "register", "rung_milestones"]

SCHEDULERS: dict[str, type[Scheduler]] = {"asha": Asha, "hyperband": Hyperband, "none": Scheduler}


def register(
    name: str, scheduler: type[Scheduler], settings: type[SchedulerConfig] = SchedulerConfig
) -> None:
    """Add a scheduler, with the settings that its section of `search` takes."""
    SCHEDULERS[name], SETTINGS[name] = scheduler, settings


def new_scheduler(search: SearchConfig, horizon: int, trials: int, images: int) -> Scheduler:
    """Return the scheduler of a cell with this horizon, budget of trials and training images."""
    rungs = rung_milestones(horizon, search, images)
    scheduler, skips = SCHEDULERS[search.scheduler], search.transfer > 0
    return scheduler(search.settings, rungs, range(trials), skips)


def rung_milestones(
    horizon: int, search: SearchConfig, images: int, scheduler: type[Scheduler] | None = None
) -> tuple[int, ...]:
    """Return the samples at which the scheduler judges trials; the last are the horizon's.

    `scheduler` is the one that `search` names, for processes where it may not be registered.
    """
    scheduler = scheduler or SCHEDULERS[search.scheduler]
    return scheduler.rungs(search.settings, horizon, images)


def milestones(
    horizon: int,
    search: SearchConfig,
    images: int,
    trained: bool = True,
    scheduler: type[Scheduler] | None = None,
) -> tuple[int, ...]:
    """Return the samples at which a trial is evaluated: its rungs, and evenly spaced points.

    A head that is solved for, not `trained`, is evaluated once. `scheduler` is as in
    `rung_milestones`.
    """
    if not trained:
        return (horizon,)
    points = {round(horizon * i / search.evaluations) for i in range(1, search.evaluations + 1)}
    return tuple(sorted({*points, *rung_milestones(horizon, search, images, scheduler)} - {0}))
