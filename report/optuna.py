"""Write a run's studies for optuna-dashboard: `python -m report.optuna results/digits`.

One study a cell, from the events in `events.jsonl`. A run writes them when it ends. This command
also writes what has happened so far in a run that goes on or was killed.
"""

from __future__ import annotations

import sys
from datetime import datetime
from operator import attrgetter
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from errors import InputError
from files import replacing
from records import EXPERIMENT, JOURNAL, STUDIES, RunHistory, TrialHistory
from report.command import read_events, run_command
from search_spaces import Space, parse_space
from search_spaces.optuna_trial import OptunaTrial, optuna_trial
from terminal import Terminal, say


def write_studies(run_dir: Path) -> Path:
    """Write the studies of all cells so far, in place of those of an earlier call.

    Raises:
        InputError: the folder has no journal or no experiment, or they are damaged.
    """
    history = RunHistory.of(read_events(run_dir))
    spaces = _spaces(run_dir / EXPERIMENT)
    with replacing(run_dir / STUDIES) as file:
        storage = JournalStorage(JournalFileBackend(str(file)))
        for cell, trials in history.by_cell.items():
            if cell.method not in spaces:  # of an earlier, larger experiment
                continue
            study = optuna.create_study(study_name=str(cell), storage=storage, direction="maximize")
            in_order = sorted(trials, key=attrgetter("number"))
            study.add_trials(_shown(trial, spaces[cell.method]) for trial in in_order)
    return run_dir / STUDIES


def _spaces(path: Path) -> dict[str, Space]:
    """Return the space of every method of a run."""
    try:
        methods = yaml.safe_load(path.read_text(encoding="utf-8"))["methods"]
        return {name: parse_space(m["space"], m["default"]) for name, m in methods.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        raise InputError(
            f"{path}: not of a run, of another version, or made with --import"
        ) from None


def _shown(trial: TrialHistory, space: Space) -> OptunaTrial:
    """Return a trial as Optuna's dashboard shows it; raises InputError if it is not of `space`."""
    try:
        space.check(trial.config)
    except ValueError as error:
        raise InputError(f"{JOURNAL}: trial {trial.number} of {trial.cell}: {error}") from None
    return optuna_trial(
        space,
        trial.config,
        trial.status,
        trial.reports,
        trial.score,
        datetime.fromtimestamp(trial.began),
        datetime.fromtimestamp(trial.ended),
    )


def main() -> int:
    """Write the studies and say how to see them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def work(run_dir: Path) -> None:
        say(Terminal(), f"written; to see them: optuna-dashboard {write_studies(run_dir)}")

    return run_command("report.optuna", __doc__, work)


if __name__ == "__main__":
    sys.exit(main())
