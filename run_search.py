"""The command line: see `commands/`, or `python run_search.py --help`."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib import import_module

from commands import COMMANDS, SEARCH
from commands.arguments import CREDENTIALS
from commands.resuming import how_to_go_on, interrupted_by_signals
from errors import InputError
from terminal import INTERRUPTED, Terminal, run_main, say


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Status goes to stderr, the table to stdout.
    """
    return run_main(partial(_main, sys.argv[1:] if argv is None else argv))


def _main(given: list[str]) -> int:
    try:
        name, words = (
            (given[0], given[1:]) if given[:1] and given[0] in COMMANDS else (SEARCH, given)
        )
        with interrupted_by_signals():
            code: int = import_module(f"commands.{name}").run(words)
        return code
    except InputError as error:  # a mistyped option may hold a key
        raise InputError(CREDENTIALS.sub("***", str(error))) from error
    except KeyboardInterrupt:
        say(Terminal(stderr=True), f"interrupted; {how_to_go_on(given)}")
        return INTERRUPTED


def _open_closed() -> None:
    """Give the streams that are closed, as under some daemons, a place that takes everything."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _keep_stdout() -> None:
    """Leave standard output to `sys.stdout`: what libraries write there goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


if __name__ == "__main__":
    _open_closed()
    _keep_stdout()
    sys.exit(main())
