"""What `python -m report`, `report.optuna` and `report.tensorboard` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from errors import InputError
from records import JOURNAL, Event, read_journal
from terminal import run_main


def run_command(module: str, description: str | None, work: Callable[[Path], None]) -> int:
    """Call `work` with the run's directory that the command line names; return the exit code.

    Exit code 2 means that the input is wrong.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("run_dir", type=Path, help="a run's directory, such as results/digits")

    def main() -> int:
        work(parser.parse_args().run_dir)
        return 0

    return run_main(main)


def read_events(run_dir: Path) -> list[Event]:
    """Read the journal of a run.

    Raises:
        InputError: the folder has no journal, or a damaged one.
    """
    journal = run_dir / JOURNAL
    if not journal.exists():
        raise InputError(f"{run_dir} holds no run: it has no {JOURNAL}")
    return read_journal(journal)
