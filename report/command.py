"""What `python -m report.optuna` and `python -m report.tensorboard` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from errors import InputError
from records import JOURNAL, Event, read_journal
from terminal import FAILED, Terminal, run_main, say


def run_command(
    module: str, description: str | None, work: Callable[[Path], Sequence[str] | None]
) -> int:
    """Call `work` with the run's directory that the command line names; return the exit code.

    It is 2 if the input is wrong, and 1 if `work` returns lines on what is missing.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("run_dir", type=Path, help="a run's directory, such as results/digits")

    def main() -> int:
        missing = work(parser.parse_args().run_dir) or ()
        for line in missing:
            say(Terminal(stderr=True), f"error: {line}")
        return FAILED if missing else 0

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
