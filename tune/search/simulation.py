"""A search without Ray: a loop in the Tuner's place, and no training.

Tests and `benchmarks/search.py` play the real `Search` with it, in moments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from records import TrialReport
from tune.search.search import Proposal, Search


def a_report(milestone: int, score: float, **more: Any) -> TrialReport:
    """Return the report of a trial that was not trained; it diverged where the score is NaN."""
    report = TrialReport(
        milestone=milestone,
        taken_up=0,
        samples=milestone,
        steps=milestone,
        train_loss=1.0,
        val_accuracy=score if score != score else min(1.0, max(0.0, score)),
        val_loss=1.0,
        score=float(score),
        prospect=float(score),
        weight_distance=0.0,
        diverged=score != score,
        seconds=milestone / 10,
        node="",
    )
    return replace(report, **more)


@dataclass
class Flight:
    """A trial that runs, and the milestones it has still to come to."""

    proposal: Proposal
    ahead: list[int]


class Player:
    """Plays a search: starts what it proposes, and reports.

    `evaluate` returns the report of a trial at a milestone, None if its process dies; `pick`
    chooses which of the trials in flight reports next.
    """

    def __init__(
        self,
        search: Search,
        evaluate: Callable[[Proposal, int], TrialReport | None],
        pick: Callable[[list[Flight]], Flight],
        slots: int = 1,
    ) -> None:
        self.search, self._slots = search, slots
        self._evaluate, self._pick = evaluate, pick
        self.flying: list[Flight] = []
        self.proposals: list[Proposal] = []

    def fill(self) -> None:
        """Start trials while slots are free and the search has some."""
        while len(self.flying) < self._slots and (proposal := self.search.propose()):
            self.proposals.append(proposal)
            # A trial that finds its checkpoint reports its last milestone once more.
            state = self.search.cells[proposal.cell]
            last = max(state.trials[proposal.number].reports, default=0)
            ahead = [milestone for milestone in state.milestones if milestone >= last]
            self.flying.append(Flight(proposal, ahead))

    def step(self) -> None:
        """Let one of the trials in flight reach its next milestone."""
        flight = self._pick(self.flying)
        proposal = flight.proposal
        report = self._evaluate(proposal, flight.ahead.pop(0))
        if report is None:
            self.search.end(proposal.cell, proposal.number, "failed", "its process died")
            self.flying.remove(flight)
        elif not self.search.report(proposal.cell, proposal.number, report):
            self.flying.remove(flight)

    def run(self, reports: int | None = None) -> None:
        """Play to the end, or until that number of reports has been made."""
        self.fill()
        while self.flying and reports != 0:
            self.step()
            self.fill()
            reports = None if reports is None else reports - 1
