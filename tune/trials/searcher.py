"""The search as Tune's searcher: it proposes trials."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from records import Cell
from tune.search.search import Search
from tune.trials.scheduler import CellScheduler
from tune.trials.trainable import SCORE


class CellSearcher(Searcher):
    """Hands out `Search`'s proposals. Tune unwraps a searcher's attribute named `searcher`.

    No trial is proposed before one of the slots is free: the later it is proposed, the more results
    it is based on. `spare` trials are proposed beyond that, and wait for machines that may join.
    """

    def __init__(
        self, search: Search, scheduler: CellScheduler, slots: int, spare: int = 0
    ) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._search, self._scheduler = search, scheduler
        self._slots, self._spare = slots, spare
        self._out: dict[str, tuple[Cell, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its searcher; the journal is the state

    def suggest(self, trial_id: str) -> Any:
        """Propose a trial for Tune to start; None if none is to start now."""
        enough = len(self._out) >= self._slots and self._scheduler.queue.waiting >= self._spare
        if enough and not self._search.finished:
            return None
        proposal = self._search.propose()
        if proposal is None:
            return Searcher.FINISHED if self._search.finished else None
        self._out[trial_id] = (proposal.cell, proposal.number)
        return {
            "cell": str(proposal.cell),
            "number": proposal.number,
            "config": proposal.config,
            "probe": proposal.probe,
            "anywhere": self._scheduler.queue.anywhere(proposal.config),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the search of a trial that failed; all others ended by its own decision."""
        cell, number = self._out.pop(trial_id)
        if error:
            self._search.end(cell, number, "failed", self._scheduler.failures.pop(trial_id, ""))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the journal is the state."""
