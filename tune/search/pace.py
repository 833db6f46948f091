"""How fast a method's trials are, by what they reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from partitions import Partition
from tune.search.cell_search import CellSearch
from tune.search.search import Search
from tune.search.trial_record import TrialRecord

JUDGED = 1 / 3
"""What judging an image takes, in training samples: a forward pass, without two of backward."""


@dataclass(frozen=True)
class Work:
    """What a trial does up to some number of samples, in training samples.

    Attributes:
        judges: validation images that each partition's trials are judged by.
    """

    judges: Mapping[Partition, int]

    def __call__(self, state: CellSearch, samples: float) -> float:
        """Count the samples, and the evaluations that come with them."""
        if not state.takes_steps:
            return samples
        judged = self.judges.get(state.cell.partition, 0) * state.evaluations(samples)
        return samples + JUDGED * judged


@dataclass(frozen=True)
class Pace:
    """What a method's trials take: `start` seconds each, and `rate` seconds a unit of work.

    Attributes:
        sure: whether a trial went on after its first report, or ended there. One that did not may
            have waited for whatever a process does for the first time.
    """

    start: float
    rate: float
    sure: bool


def pace_of(search: Search, method: str, work: Work) -> Pace | None:
    """Measure a method's pace over its trials, of all partitions; None before the first report."""
    states = [state for cell, state in search.cells.items() if cell.method == method]
    reported = [(s, t) for s in states for t in s.trials.values() if t.samples]
    if not reported:
        return None
    later = [(s, t) for s, t in reported if t.samples > t.first[0]]
    if not later:
        whole = any(trial.samples >= state.horizon for state, trial in reported)
        done = sum(work(state, trial.samples) for state, trial in reported)
        return Pace(0.0, sum(trial.seconds for _, trial in reported) / done, whole)
    took = sum(trial.seconds - trial.first[1] for _, trial in later)
    rate = took / sum(work(s, t.samples) - work(s, t.first[0]) for s, t in later)
    starts = [max(0.0, t.first[1] - rate * work(s, t.first[0])) for s, t in reported]
    return Pace(median(starts), rate, True)


def whole_trial(state: CellSearch, trial: TrialRecord, pace: Pace, work: Work) -> float:
    """Return the seconds that a trial, which has reported, takes to the horizon."""
    done, first = work(state, trial.samples), work(state, trial.first[0])
    if done > first:
        rate = (trial.seconds - trial.first[1]) / (done - first)
    else:
        rate = max(0.0, trial.seconds - pace.start) / done
    return trial.seconds + rate * (work(state, state.horizon) - done)
