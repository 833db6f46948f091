"""The search as Tune's searcher and scheduler: what it proposes, and which trials run and go on."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from data import LostFeaturesError
from errors import InputError, one_line
from records import Cell, TrialReport
from tune.search.search import Search
from tune.trials.trainable import REPORT, SCORE
from tune.workers.machines import BarredMachines, UnfitMachineError
from tune.workers.placement import TrialQueue

RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b", re.MULTILINE)

FAILURE = "Failure # "  # with its number, before each in Tune's file
TRIES = 3
"""How often a trial is tried whose process fails.

Tune itself tries for ever: it would count what is no failure of the trial's, too.
"""


class CellScheduler(FIFOScheduler):
    """Passes every result to the search.

    A trial without a report ends its process after `patience` seconds. One whose machine is unfit
    goes elsewhere, and no trial after it goes to that machine.
    """

    def __init__(
        self,
        search: Search,
        queue: TrialQueue,
        patience: float = math.inf,
        barred: BarredMachines | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search, self.queue, self._patience = search, queue, patience
        self._barred = barred or BarredMachines()
        self._heard: dict[str, float] = {}  # when a trial last reported or was let run
        self._counted: dict[str, int] = {}  # failures of each, by Tune's count
        self.failures: dict[str, list[str]] = {}  # why a trial's process failed, by Tune's name
        self._lost = ""  # which features no longer are what they were

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its scheduler; the journal is the state

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the trial that gets a free actor.

        Raises:
            InputError: a trial met damaged features, as all others would.
        """
        if self._lost:  # raised here, as Tune makes text of what is raised where it tells of trials
            raise InputError(self._lost)
        chosen = self.queue.next()
        if chosen is not None:
            self._heard[chosen.trial_id] = time.monotonic()
        return chosen

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a new trial, or one that lost its process or machine, unless it has no try left."""
        if len(self.failures.get(trial.trial_id, ())) >= TRIES:
            tune_controller.stop_trial(trial)
            return
        if request := self.queue.request_beside(self._barred, trial):
            trial.update_resources(request)
        self.queue.add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Remember why a trial's process failed, if that is its own failure.

        It is not if its machine is unfit, or if its node was drained, which Tune does not count.
        """
        counted = self._counted.get(trial.trial_id, 0)
        self._counted[trial.trial_id] = trial.num_failures
        if unfit := _unfit(trial):
            self._barred.bar(unfit)
            return
        if trial.num_failures == counted:
            return
        heard = self._heard.get(trial.trial_id, math.inf)
        otherwise = "its process failed"
        if time.monotonic() - heard >= self._patience:
            otherwise = f"no report for {self._patience:g} s (resources.report_seconds)"
        raised = _raised(trial)
        error, _, message = raised.partition(": ")
        if error.endswith(LostFeaturesError.__name__):
            self._lost = one_line(message, 1000)
        why = f"{one_line(raised or otherwise, 300)}; see Ray's logs"
        self.failures.setdefault(trial.trial_id, []).append(why)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass a report to the search, which decides whether the trial goes on.

        Every trial is ended here, even at its horizon: Tune would keep a result that says `done`
        from the scheduler. A paused trial ends for Tune as well; once promoted, it comes back as a
        new trial that finds its checkpoint.
        """
        self._heard[trial.trial_id] = time.monotonic()
        cell, number = Cell.parse(trial.config["cell"]), trial.config["number"]
        report: TrialReport = result[REPORT]
        goes_on = self._search.report(cell, number, report)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


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
        reasons = self._scheduler.failures.pop(trial_id, [])
        if error or len(reasons) >= TRIES:
            self._search.end(cell, number, "failed", reasons[-1] if reasons else "")

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the journal is the state."""


def _unfit(trial: Trial) -> UnfitMachineError | None:
    """Return what a trial's process raised last, if that was of its machine."""
    return UnfitMachineError.told_in(_last_error(trial))


def _last_error(trial: Trial) -> str:
    """Read what Tune has written of a trial's last failure."""
    if not trial.error_file or not Path(trial.error_file).exists():
        return ""
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    return text.rpartition(FAILURE)[2]


def _raised(trial: Trial) -> str:
    """Return what a trial raised last; nothing if its process died."""
    text = _last_error(trial)
    *_, raised = ("", *(text[found.start() :] for found in RAISED.finditer(text)))
    # Ray's own errors describe the process, at length.
    return "" if raised.startswith("ray.") else raised
