"""Write a run's studies for optuna-dashboard: `python -m report.optuna results/digits`.

One study a cell, from the events in `events.jsonl`. A run writes them when it ends. This command
also writes what has happened so far in a run that goes on or was killed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from errors import InputError
from records import Cell, TrialEnded, TrialEvent, TrialReported, TrialStarted, read_journal
from search_spaces import Params, Space, parse_space
from search_spaces.optuna_trial import OptunaTrial, optuna_trial

FILE = "optuna.journal"


@dataclass
class _Trial:
    """What a study holds of a trial."""

    config: Params
    began: float
    reports: dict[int, float] = field(default_factory=dict)
    score: float = -math.inf
    status: str = "running"
    ended: float = 0.0

    def add(self, event: TrialEvent) -> None:
        """Take in an event of the trial."""
        match event:
            case TrialStarted():
                self.status = "running"
            case TrialReported(report=report):
                if not report.diverged and math.isfinite(report.score):
                    self.reports.setdefault(report.milestone, report.prospect)
                    self.score = max(self.score, report.score)
            case TrialEnded(status=status):
                self.status, self.ended = status, event.time

    def shown(self, space: Space) -> OptunaTrial:
        """Return the trial as Optuna's dashboard shows it."""
        return optuna_trial(
            space,
            self.config,
            self.status,
            self.reports,
            self.score,
            datetime.fromtimestamp(self.began),
            datetime.fromtimestamp(self.ended),
        )


def write_studies(run_dir: Path) -> Path:
    """Write the studies of all cells so far, in place of those of an earlier call.

    Raises:
        InputError: the folder has no journal or no experiment, or they are damaged.
    """
    journal = run_dir / "events.jsonl"
    if not journal.exists():
        raise InputError(f"{run_dir} holds no run: it has no {journal.name}")
    spaces = _spaces(run_dir / "experiment.yaml")
    whole, unfinished = run_dir / FILE, run_dir / f"{FILE}.unfinished"
    unfinished.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(unfinished)))
    for cell, trials in _trials(journal).items():
        if cell.method in spaces:  # it may be a method of an earlier, larger experiment
            study = optuna.create_study(study_name=str(cell), storage=storage, direction="maximize")
            shown = (trial.shown(spaces[cell.method]) for _, trial in sorted(trials.items()))
            study.add_trials(shown)
    unfinished.replace(whole)
    return whole


def _spaces(path: Path) -> dict[str, Space]:
    """Return the space of every method of a run."""
    try:
        methods = yaml.safe_load(path.read_text(encoding="utf-8"))["methods"]
        return {name: parse_space(m["space"], m["default"]) for name, m in methods.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        raise InputError(f"{path}: not of a run, or of another version") from None


def _trials(journal: Path) -> Mapping[Cell, Mapping[int, _Trial]]:
    """Return what the journal says of every trial, by cell and number."""
    found: dict[Cell, dict[int, _Trial]] = {}
    for event in read_journal(journal):
        if isinstance(event, TrialStarted):
            found.setdefault(event.cell, {}).setdefault(
                event.trial, _Trial(event.config, event.time)
            )
        if isinstance(event, TrialEvent):
            found[event.cell][event.trial].add(event)
    return found


def main() -> int:
    """Write the studies, say how to see them; exit code 2 means the input can be mended."""
    parser = argparse.ArgumentParser(prog="python -m report.optuna", description=__doc__)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parser.add_argument("run_dir", type=Path, help="a run's directory, such as results/digits")
    try:
        file = write_studies(parser.parse_args().run_dir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written; to see them: optuna-dashboard {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
