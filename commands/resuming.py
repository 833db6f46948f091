"""How an interrupted or killed command says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from commands import COMMANDS

PROGRAM = Path(__file__).resolve().parents[1] / "run_search.py"


def how_to_go_on(given: list[str]) -> str:
    """Say how to continue the command line `given`, the words after the program's name."""
    if "--dry-run" in given:
        return "nothing was begun"
    resume = [] if "--resume" in given or {*given[:1]} & {*COMMANDS} else ["--resume"]
    this = [os.path.relpath(sys.executable), os.path.relpath(PROGRAM)]
    return f"nothing is lost, continue with: {shlex.join([*this, *given, *resume])}"


ENDED_BY = (signal.SIGTERM, signal.SIGHUP)
"""What batch systems send at a job's limit, and a terminal that is closed."""


@contextmanager
def told_if_killed(given: list[str], address: str | None) -> Iterator[None]:
    """Have a small process say how to go on if this one is ended within the block.

    If one of Ray's servers is killed, Ray ends this process without a word to Python. What batch
    systems and closed terminals send is an interruption like Ctrl-C.
    """
    from tune.workers.private import private_folder

    watch = 'read -r _ || printf "%s\\n" "$1" >&2'
    line = "error: this process or Ray was killed, perhaps for want of memory"
    if address is None:
        line += f" (Ray's logs: {private_folder()}/ray/session_latest/logs)"
    with (
        interrupted_by_signals(),
        subprocess.Popen(
            ["/bin/sh", "-c", watch, "sh", f"{line}; {how_to_go_on(given)}"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as watcher,
    ):
        try:
            yield
        finally:
            watcher.communicate(b"over\n")


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP within the block interrupt like Ctrl-C, and say that it is heard."""
    before = {number: signal.getsignal(number) for number in (*ENDED_BY, signal.SIGINT)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: Any) -> NoReturn:
    """Interrupt the run, once; some systems signal twice. Ctrl-C again ends it at once."""
    for number in ENDED_BY:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(OSError):
        os.write(2, b"interrupted, ending ...\n")  # a signal may come in the midst of a print
    raise KeyboardInterrupt
