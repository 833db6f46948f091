"""The journal of a run, read: its trials, its winners, what failed, and its footnotes.

The journal (`events.jsonl`) is append-only, so its order is the order of events: a later event
about the same thing overrules an earlier one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import InputError


@dataclass
class Trial:
    """One trial as far as the journal tells: its state, and its best report by score."""

    cell: str
    number: int
    config: dict[str, Any] = field(default_factory=dict)
    status: str = "running"
    origin: str = ""
    reason: str = ""
    samples: int = 0
    seconds: float = 0.0
    score: float = -math.inf
    val_accuracy: float = math.nan
    val_loss: float = math.nan

    def start(self, event: Mapping[str, Any]) -> None:
        """Take the trial up, for the first time or again."""
        self.config, self.status, self.reason = event["config"], "running", ""
        self.origin = event.get("origin") or ""

    def report(self, event: Mapping[str, Any]) -> None:
        """Count the work done, and keep the values of the best score so far."""
        self.samples = max(self.samples, event["samples"])
        self.seconds = max(self.seconds, event["seconds"])
        score = _number(event["score"])
        if score > self.score:
            self.score = score
            self.val_accuracy = _number(event["val_accuracy"])
            self.val_loss = _number(event["val_loss"])

    def end(self, event: Mapping[str, Any]) -> None:
        """Note how the trial ended: completed, stopped, diverged, failed or cut (in time)."""
        self.status, self.reason = event["status"], event.get("reason") or ""


@dataclass(frozen=True)
class Winner:
    """The best trial of a cell by validation."""

    trial: int
    val_accuracy: float
    config: dict[str, Any]

    @property
    def unfrozen(self) -> bool:
        """Whether it trains any block of the encoder."""
        return trains_encoder(self.config)

    @property
    def trains(self) -> bool:
        """Whether it trains anything: zero-shot does not."""
        return bool(self.config) and not is_zero_shot(self.config)


@dataclass(frozen=True)
class Journal:
    """All the report needs of `events.jsonl`; cells are named as there, `10/llrd`.

    Attributes:
        failed_fits: by cell and seed, why the last try of a final fit failed; one that was made
            later is on disk.
    """

    trials: dict[tuple[str, int], Trial] = field(default_factory=dict)
    winners: dict[str, Winner] = field(default_factory=dict)
    failed_fits: dict[tuple[str, int], str] = field(default_factory=dict)
    footnotes: list[str] = field(default_factory=list)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event; kinds that the report has no use for are passed over."""
        match event["event"]:
            case "trial_started":
                self._trial(event).start(event)
            case "trial_report":
                self._trial(event).report(event)
            case "trial_paused":
                self._trial(event).status = "paused"
            case "trial_ended":
                self._trial(event).end(event)
            case "winner":
                accuracy = _number(event["val_accuracy"])
                self._win(event["cell"], Winner(event["trial"], accuracy, event["config"]))
            case "final_fit_failed":
                self.failed_fits[event["cell"], event["seed"]] = event["reason"]
            case "footnote":
                self.footnote(event["text"])

    def footnote(self, text: str) -> None:
        """Keep a line for the table's footer, once."""
        if text not in self.footnotes:
            self.footnotes.append(text)

    def _win(self, cell: str, winner: Winner) -> None:
        """Keep a winner; what failed of the one before it says nothing of another."""
        before = self.winners.get(cell)
        if before and (before.trial, before.config) != (winner.trial, winner.config):
            for key in [key for key in self.failed_fits if key[0] == cell]:
                del self.failed_fits[key]
        self.winners[cell] = winner

    def _trial(self, event: Mapping[str, Any]) -> Trial:
        key = event["cell"], event["trial"]
        return self.trials.setdefault(key, Trial(*key))


def trains_encoder(config: Mapping[str, Any]) -> bool:
    """Whether a configuration trains any block of the encoder, rather than a head alone."""
    return config.get("blocks") not in (None, "", "none")


def is_zero_shot(config: Mapping[str, Any]) -> bool:
    """Whether a configuration trains nothing, its head being made of the classes' names."""
    return config.get("solver") == "none"


def read_journal(path: Path) -> Journal:
    """Read `events.jsonl`, forgiving the line that a crash cut short.

    A torn last line is dropped in silence. One further up, left by a crash before a resume, is
    dropped with a footnote.

    Raises:
        InputError: an event lacks one of its fields.
    """
    journal = Journal()
    for number, event in numbered_events(path):
        if event is None:
            journal.footnote(f"{path.name}: line {number} is unreadable and was skipped")
            continue
        try:
            journal.add(event)
        except KeyError as error:
            raise InputError(f"{path}, line {number}: the event has no {error}") from error
    return journal


def numbered_events(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yields the events of `events.jsonl` by line; None for a torn one that is not the last."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines):
                return
            event = None
        yield number, event


def _number(value: float | None) -> float:
    """Read a number that a strict JSON writer may have had to write as null."""
    return math.nan if value is None else float(value)
