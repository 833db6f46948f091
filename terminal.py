"""What goes to a terminal: text as it is, in any encoding, and how a command line ends."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from errors import InputError, one_line

FAILED, REFUSED, INTERRUPTED = 1, 2, 130  # exit codes
OF_A_PLACE = {
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EROFS,
}
"""Faults of a place that the user named, or that somebody changed; not of the program."""
LONGEST = 5000  # characters of a line: more than of any path
_INSTEAD = {"±": "+-", "–": "-", "…": "...", "✂": "x", "─": "-"}


class OutputError(Exception):
    """Standard output cannot be written to; `full` says that its disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.full = error.errno == errno.ENOSPC


class Terminal(Console):
    """A console for which no text is markup.

    A standard output that takes no more is an OutputError. A standard error that takes no more is
    nothing that a run should end for.
    """

    def __init__(self, *, stderr: bool = False, **settings: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print objects as rich's console does."""
        try:
            super().print(*objects, **settings)
        except OSError as error:
            if not self.stderr:
                raise OutputError(error) from None

    def on_broken_pipe(self) -> None:
        """Treat a closed pipe like any other output that takes no more; rich calls this."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def say(console: Console, text: object, style: str = "", *, wrap: bool = False) -> None:
    """Print a text as one line; with `wrap`, it is broken between words where the console ends."""
    line = legible(one_line(text, LONGEST), console.encoding)
    console.print(Text(line, style), soft_wrap=not wrap)


def legible(text: str, encoding: str) -> str:
    """Replace what an encoding lacks, such as ± in ASCII."""
    return text.encode(encoding, "legible").decode(encoding)


def fits(console: Console, table: Table) -> bool:
    """Say whether a console is wide enough for a table without a break in any cell."""
    wide = console.options.update(max_width=10_000)
    return console.measure(table, options=wide).maximum <= console.width


def print_rows(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; if the console is too narrow for it, each row is a line."""
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    if fits(console, table):
        console.print(table)
        return
    for line in as_lines(header, rows):
        say(console, line, wrap=True)


def as_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write each row of a table as a line, for a terminal that is too narrow for the table."""
    for row in rows:
        first, *others = (f"{name} {value}" for name, value in zip(header, row, strict=True))
        yield f"{first}: {', '.join(others)}"


def run_main(work: Callable[[], int]) -> int:
    """Do the work of a command line, and return its exit code; what is wrong is one line."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="legible")
    code, line = FAILED, ""
    try:
        try:
            return work()
        finally:
            _flush(sys.stdout)
    except InputError as error:
        code, line = REFUSED, f"error: {error}"
    except KeyboardInterrupt:
        code, line = INTERRUPTED, "interrupted"
    except OutputError as error:
        code = REFUSED if error.full else FAILED
        line = f"error: standard output cannot be written to: {error}"
    except OSError as error:
        if error.errno not in OF_A_PLACE or not error.filename:
            raise
        code, line = REFUSED, f"error: {one_line(error.filename)}: {error.strerror}"
    finally:
        if line:
            say(Terminal(stderr=True), line)
        _let_go(sys.stderr)
    return code


def _flush(stream: TextIO | None) -> None:
    try:
        if stream:
            stream.flush()
    except OSError as error:
        _discard(stream)
        raise OutputError(error) from None


def _let_go(stream: TextIO | None) -> None:
    """Have nothing left to be written at exit, where Python would make a failure of it."""
    try:
        _flush(stream)
    except OutputError:
        return


def _discard(stream: TextIO | None) -> None:
    """Send what a stream holds, and all that follows, nowhere."""
    if stream:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    ascii_only = (
        _INSTEAD.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking
    )
    return "".join(ascii_only), error.end


codecs.register_error("legible", _replacement)
