"""A run's journal, summed up: its trials, its winners, its failures and its footnotes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from records.cell import Cell
from records.events import (
    EncoderSized,
    EncoderTimed,
    Event,
    FinalFitFailed,
    Footnote,
    RunStarted,
    StageEnded,
    TrialEnded,
    TrialEvent,
    TrialPaused,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
)


@dataclass
class TrialHistory:
    """One trial: its state, and the values of its best report by score.

    Attributes:
        began, ended: seconds since 1970; of a trial that goes on after a pause, its first start.
        reports: prospect at each milestone, where it is a number.
    """

    cell: Cell
    number: int
    began: float = 0.0
    ended: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    status: str = "running"
    origin: str = ""
    reason: str = ""
    samples: int = 0
    seconds: float = 0.0
    score: float = -math.inf
    val_accuracy: float = math.nan
    val_loss: float = math.nan

    def take(self, event: TrialEvent) -> None:
        """Take in an event of the trial."""
        match event:
            case TrialStarted():
                self.began = self.began or event.time
                self.config, self.origin = event.config, event.origin
                self.status, self.reason = "running", ""
            case TrialReported(report=report):
                self._report(report)
            case TrialPaused():
                self.status = "paused"
            case TrialEnded():
                self.status, self.reason, self.ended = event.status, event.reason, event.time

    def _report(self, report: TrialReport) -> None:
        self.samples = max(self.samples, report.samples)
        self.seconds = max(self.seconds, report.seconds)
        if not report.diverged and math.isfinite(report.score):
            self.reports.setdefault(report.milestone, report.prospect)
        if report.score > self.score:
            self.score = report.score
            self.val_accuracy, self.val_loss = report.val_accuracy, report.val_loss


@dataclass
class RunHistory:
    """What the events of a run come to; a later event about the same thing overrules an earlier.

    Attributes:
        trials: by cell and number.
        failed_fits: why the last try of a final fit failed, by cell and seed. A fit that succeeded
            later keeps its entry here, and its result is on disk.
        versions: those of each start since the first trial, and of the one before it.
        seed: that of the search; None before the run has started.
        stages: seconds of each stage, over all starts.
        encoder: what the encoder takes to run; None in runs of before.
        speed: how fast it is here; None where it was not timed.
    """

    trials: dict[tuple[Cell, int], TrialHistory] = field(default_factory=dict)
    winners: dict[Cell, Winner] = field(default_factory=dict)
    failed_fits: dict[tuple[Cell, int], str] = field(default_factory=dict)
    footnotes: list[str] = field(default_factory=list)
    versions: list[dict[str, str]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    encoder: EncoderSized | None = None
    speed: EncoderTimed | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunHistory:
        """Sum up the events of a journal, in their order."""
        history = cls()
        for event in events:
            history._take(event)
        return history

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                if not self.trials:  # the starts before this one came to nothing
                    self.versions.clear()
                self.versions.append(event.versions)
                self.seed = event.seed
            case EncoderSized():
                self.encoder = event
            case EncoderTimed():
                self.speed = event
            case Winner():
                self._win(event)
            case FinalFitFailed():
                self.failed_fits[event.cell, event.seed] = event.reason
            case Footnote() if event.text not in self.footnotes:
                self.footnotes.append(event.text)
            case StageEnded():
                self.stages[event.stage] = self.stages.get(event.stage, 0.0) + event.seconds
            case TrialEvent():
                key = event.cell, event.trial
                self.trials.setdefault(key, TrialHistory(*key)).take(event)

    @cached_property
    def by_cell(self) -> dict[Cell, list[TrialHistory]]:
        """The trials of each cell that has any, in the order of their first events."""
        cells: dict[Cell, list[TrialHistory]] = {}
        for trial in self.trials.values():
            cells.setdefault(trial.cell, []).append(trial)
        return cells

    def _win(self, winner: Winner) -> None:
        """Keep a winner; the failed fits of another winner before it do not concern it."""
        before = self.winners.get(winner.cell)
        if before and (before.trial, before.config) != (winner.trial, winner.config):
            for key in [key for key in self.failed_fits if key[0] == winner.cell]:
                del self.failed_fits[key]
        self.winners[winner.cell] = winner
