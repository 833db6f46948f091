"""The search as Tune's scheduler: it decides which trials run and go on."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from errors import one_line
from records import Cell, TrialReport
from tune.search.search import Search
from tune.trials.trainable import REPORT
from tune.workers.placement import TrialQueue

RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\b", re.MULTILINE)


class CellScheduler(FIFOScheduler):
    """Passes every result to the search.

    A trial without a report ends its process after `patience` seconds.
    """

    def __init__(self, search: Search, queue: TrialQueue, patience: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search, self.queue, self._patience = search, queue, patience
        self._heard: dict[str, float] = {}  # when a trial last reported or was let run
        self.failures: dict[str, str] = {}  # why a trial's process last failed, by Tune's name

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune saves its scheduler; the journal is the state

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Choose the trial that gets a free actor."""
        chosen = self.queue.next()
        if chosen is not None:
            self._heard[chosen.trial_id] = time.monotonic()
        return chosen

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Take a new trial, or one that lost its process or machine and is tried again."""
        self.queue.add(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Remember why a trial's process failed."""
        heard = self._heard.get(trial.trial_id, math.inf)
        otherwise = "its process failed"
        if time.monotonic() - heard >= self._patience:
            otherwise = f"no report for {self._patience:g} s (resources.report_seconds)"
        self.failures[trial.trial_id] = _reason(trial, otherwise)

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


def _reason(trial: Trial, otherwise: str) -> str:
    """Say in a line why a trial failed: what it raised, or `otherwise` if its process died."""
    if trial.error_file and Path(trial.error_file).exists():
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        *_, raised = ("", *(text[found.start() :] for found in RAISED.finditer(text)))
        if not raised.startswith("ray."):  # Ray's own errors describe the process, at length
            otherwise = raised or otherwise
    return f"{one_line(otherwise, 300)}; see Ray's logs"
