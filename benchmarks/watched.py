"""Trials that note when they step, and figures from the notes, for `benchmarks/overhead.py`.

Trials that sleep import no torch, so that many of them fit on a small machine.
"""

from __future__ import annotations

import itertools
import os
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.experiment import Trial

from tune.search.simulation import a_report
from tune.trials.trainable import REPORT, SCORE, SuffixTrial


class WatchedTrial(SuffixTrial):
    """The search's own trial; every report says when and in which process its step ran."""

    def step(self) -> dict[str, Any]:
        """Train to the next milestone, and note the times."""
        began = time.time()
        return super().step() | notes(began)


@dataclass(frozen=True)
class Nap:
    """What trials that sleep get in place of a context."""

    seconds: float  # before each report


class SleepingTrial(SuffixTrial):
    """A trial that sleeps instead of training; its milestones are 1, 2, ..."""

    def step(self) -> dict[str, Any]:
        """Sleep, and report a made-up score."""
        began = time.time()
        nap: Nap = ray.get(self._handle)  # type: ignore[assignment]
        self._milestone += 1
        time.sleep(nap.seconds)
        # It rises with the milestone, from a start that depends on the configuration.
        start = zlib.crc32(str(self._asked).encode()) / 2**33
        score = start + 0.5 * (1 - 1 / (1 + self._milestone))
        return {REPORT: a_report(self._milestone, score), SCORE: score} | notes(began)


def notes(began: float) -> dict[str, Any]:
    """Return when a step began and, by now, ended, and in which process."""
    return {"began": began, "ended": time.time(), "process": os.getpid()}


@dataclass(frozen=True)
class Step:
    """One step of a trial.

    Attributes:
        trial, process: their ids.
        began, ended: times, in seconds since the epoch.
        handled: time at which the driver had decided what follows.
    """

    trial: str
    process: int
    began: float
    ended: float
    handled: float


class Watch(ray_tune.Callback):
    """Notes every result, on the driver."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; nobody reads that

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Note a step."""
        noted = {key: result[key] for key in ("process", "began", "ended")}
        self.steps.append(Step(trial.trial_id, **noted, handled=time.time()))


def busy_share(steps: Sequence[Step], slots: int) -> float:
    """Return the share of slots' time, from the first step to the last, that is spent in steps."""
    span = max(step.ended for step in steps) - min(step.began for step in steps)
    return sum(step.ended - step.began for step in steps) / (slots * span)


def gaps(steps: Sequence[Step]) -> list[float]:
    """Return the seconds from the last step of a trial to the next trial's first, by actor."""
    actors: defaultdict[int, list[Step]] = defaultdict(list)
    for step in sorted(steps, key=lambda step: step.began):
        actors[step.process].append(step)
    return [
        later.began - earlier.ended
        for actor in actors.values()
        for earlier, later in itertools.pairwise(actor)
        if earlier.trial != later.trial
    ]


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the means of the first and of the last fifth."""
    count = max(1, len(values) // 5)
    return sum(values[:count]) / count, sum(values[-count:]) / count
