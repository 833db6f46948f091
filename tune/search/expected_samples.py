"""How many training samples the trials of a cell take under its scheduler, as far as is known."""

from __future__ import annotations

import math
import random
from functools import cache

from records import LOST
from tune.search.cell_search import CellSearch
from tune.search.schedulers import Scheduler
from tune.search.search import DEFAULT

PLAYED = 24
"""Trials that are played; each beyond them takes as much as the later half of these."""


class ExpectedSamples:
    """Expects of each cell what its scheduler would let trials with random scores do.

    Which of them go on does not matter here, and how many do hardly depends on the scores.

    Args:
        handed: trials of a cell that repeat what did well at a smaller partition, if there is one.
    """

    def __init__(self, handed: int) -> None:
        self._handed = handed
        self._whole = cache(self._whole_cell)

    def left(self, state: CellSearch) -> float:
        """Return the samples that a cell's trials have still to see; those running are half-way."""
        if state.finished:
            return 0.0
        trials = state.trials
        lost = [n for n, trial in trials.items() if trial.ended in LOST]
        seen = sum(trial.samples for n, trial in trials.items() if n not in lost)
        steps = state.takes_steps  # else it is solved for, and judged once
        points = state.milestones if steps else (state.horizon,)
        under_way = 0.0
        for number in state.under_way("running"):
            at = trials[number].samples
            under_way += (next((p for p in points if p > at), at) - at) / 2
        first = state.scheduler.milestones[0] if steps else state.horizon
        expected = self._whole(state, state.planned - len(lost), steps) - seen - under_way
        return max(expected, under_way + state.unproposed * first)

    def _whole_cell(self, state: CellSearch, trials: int, steps: bool) -> float:
        """Return the samples that this number of a cell's trials see, from first to last."""
        if not steps:
            return trials * state.horizon
        handed = self._handed if state.place else 0
        most = min(trials, PLAYED)
        whole: float = _played(state.scheduler, most, min(handed, trials // 2))
        if trials > most:
            half = _played(state.scheduler, most // 2, min(handed, most // 4))
            whole += (trials - most) * (whole - half) / (most - most // 2)
        return whole


def _played(like: Scheduler, trials: int, handed: int) -> int:
    """Return the samples that trials see, one after the other, under a scheduler `like` one."""
    scheduler = type(like)(like.settings, like.milestones, range(trials), like.skips)
    rungs, draw, proposed = like.milestones, random.Random(0), 0
    reached = [0] * trials
    while True:
        trial = scheduler.promotable()
        if trial is None:
            if proposed == trials:
                return sum(reached)
            trial, proposed = proposed, proposed + 1
        judged_from = math.inf if trial == DEFAULT else 0.0 if trial > handed else rungs[-2:][0]
        scheduler.start(trial, judged_from)
        for milestone in (rung for rung in rungs if rung > reached[trial]):
            reached[trial] = milestone
            scheduler.record(milestone, trial, draw.random())
            if scheduler.waits(trial):
                if not scheduler.admits(trial):
                    break
                scheduler.start(trial)
        else:
            scheduler.end(trial)
        while hopeless := scheduler.hopeless():
            scheduler.end(hopeless[0])
