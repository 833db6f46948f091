"""Trials that note when they step, and what follows from the notes: for `benchmarks/overhead.py`.

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

from records import TrialReport
from tune.trials.trainable import REPORT, SCORE, SuffixTrial


class WatchedTrial(SuffixTrial):
    """The search's own trial; every report says when its step began and ended, and where."""

    def step(self) -> dict[str, Any]:
        began = time.time()
        self._prepared = 0.0
        report = super().step()
        return watched(began, self._prepared, report)

    def _prepare(self, bench: Any) -> Any:
        began = time.time()
        fit = super()._prepare(bench)
        self._prepared = time.time() - began
        return fit


@dataclass(frozen=True)
class Nap:
    """What stands in a workbench's place for trials that sleep."""

    seconds: float  # before each report


class SleepingTrial(SuffixTrial):
    """Sleeps instead of training, between the search's own milestones: 1, 2, ..."""

    def step(self) -> dict[str, Any]:
        began = time.time()
        nap: Nap = ray.get(self._handle)  # type: ignore[assignment]
        self._milestone += 1
        time.sleep(nap.seconds)
        score = made_up_score(str(self._asked), self._milestone)
        report = TrialReport(
            milestone=self._milestone,
            taken_up=0,
            samples=self._milestone,
            steps=self._milestone,
            train_loss=1 - score,
            val_accuracy=score,
            val_loss=1 - score,
            score=score,
            prospect=score,
            weight_distance=0.0,
            diverged=False,
            seconds=self._milestone * nap.seconds,
            node="",
        )
        return watched(began, 0.0, {REPORT: report, SCORE: score})


def made_up_score(what: str, milestone: int) -> float:
    """Rises with the milestone, from a place that follows from `what`."""
    return zlib.crc32(what.encode()) / 2**33 + 0.5 * (1 - 1 / (1 + milestone))


def watched(began: float, prepared: float, report: dict[str, Any]) -> dict[str, Any]:
    notes = {"began": began, "ended": time.time(), "prepared": prepared, "process": os.getpid()}
    return report | notes


@dataclass(frozen=True)
class Step:
    """One step of a trial.

    Attributes:
        prepared: seconds of it that went into building the fit.
        handled: when the driver had decided what follows.
        cpu: seconds of the driver's main thread until then.
    """

    trial: str
    process: int
    began: float
    ended: float
    prepared: float
    handled: float
    cpu: float


class Watch(ray_tune.Callback):
    """Takes notes of every result, on the driver."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; nobody reads that

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        noted = {key: result[key] for key in ("process", "began", "ended", "prepared")}
        now, cpu = time.time(), time.thread_time()
        self.steps.append(Step(trial.trial_id, **noted, handled=now, cpu=cpu))


def busy_share(steps: Sequence[Step], slots: int) -> float:
    """Share of all slots' time, from the first step's begin to the last one's end, in steps."""
    span = max(step.ended for step in steps) - min(step.began for step in steps)
    return sum(step.ended - step.began for step in steps) / (slots * span)


def gaps(steps: Sequence[Step]) -> list[float]:
    """Seconds between the last step of a trial and the first of the next, on the same actor."""
    return _between(steps, same_trial=False)


def pauses(steps: Sequence[Step]) -> list[float]:
    """Seconds between two steps of the same trial."""
    return _between(steps, same_trial=True)


def _between(steps: Sequence[Step], same_trial: bool) -> list[float]:
    actors: defaultdict[int, list[Step]] = defaultdict(list)
    for step in sorted(steps, key=lambda step: step.began):
        actors[step.process].append(step)
    return [
        later.began - earlier.ended
        for actor in actors.values()
        for earlier, later in itertools.pairwise(actor)
        if (earlier.trial == later.trial) == same_trial
    ]


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The means of the first and of the last fifth."""
    count = max(1, len(values) // 5)
    return sum(values[:count]) / count, sum(values[-count:]) / count
