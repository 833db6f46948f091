"""The journal of a run, `events.jsonl`: append-only, and the one truth that a resume replays."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from errors import InputError, one_line
from records.encoding import decode, encode
from records.events import Event, TrialPaused, TrialPromoted, TrialReported, TrialStarted
from records.layout import JOURNAL

OFTEN = (TrialReported, TrialPromoted, TrialPaused)
"""Events that are not forced to the disk: a trial repeats what a power cut took of them."""
LATEST = 1e11  # seconds since 1970 that a date can still be made of


class JournalWriter:
    """Appends events; it first removes a line that a crash cut off from the file's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._lasting = path.is_file()  # a simulation's goes to the null device
        self._listeners: list[Callable[[Event], None]] = []

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on, once it is written."""
        self._listeners.append(listener)

    def write(self, event: Event) -> None:
        """Append an event with the present time, and flush it; force all but a few to the disk."""
        event = replace(event, time=round(time.time(), 3))
        self._file.write(journal_line(event))
        self._file.flush()
        if not isinstance(event, OFTEN):
            self._sync()
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        """Force the events to the disk, and close the file."""
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        if self._lasting:
            os.fsync(self._file.fileno())


def journal_line(event: Event) -> str:
    """Write an event as a line of the journal."""
    content = encode(event)
    line = {"time": content.pop("time"), "event": event.name, **content}
    return json.dumps(line, allow_nan=False) + "\n"


def read_journal(path: Path) -> list[Event]:
    """Read the events of a journal in order, without a torn last line; a missing file holds none.

    Raises:
        InputError: a line is not an event, or a field of it is not as it should be.
    """
    return parse_journal(path.read_bytes(), path) if path.exists() else []


def parse_journal(content: bytes, where: str | Path) -> list[Event]:
    """Read the content of a journal like `read_journal`; `where` names it in errors."""
    *whole, _ = content.split(b"\n")  # the last one is empty, or torn
    return [_event(line, number, where) for number, line in enumerate(whole, start=1)]


def damaged(where: str | Path, line: int, why: object = "") -> InputError:
    """Return the error of a journal's line; lines count from 1."""
    reason = f" ({one_line(why)}), or of another version" if str(why) else ""
    return InputError(
        f"{where}: line {line} is damaged{reason}; restore the file from a copy, "
        "or --name starts another"
    )


def holds_run(events: Iterable[Event], where: str | Path, resume: bool) -> bool:
    """Return whether a run got as far as its first trial; without `resume`, refuse one that did."""
    found = any(isinstance(event, TrialStarted) for event in events)
    if found and not resume:
        raise InputError(
            f"{where} already holds a run; --resume continues it, --name starts another"
        )
    return found


def refuse_held(run_dir: Path) -> None:
    """Raise InputError if a folder already holds a run; what cannot be read is left to later."""
    with suppress(OSError):
        holds_run(read_journal(run_dir / JOURNAL), run_dir, resume=False)


def _event(line: bytes, number: int, where: str | Path) -> Event:
    try:
        content = json.loads(line)
        if (name := content.pop("event")) not in Event.kinds:
            raise ValueError(f"no event is called {name!r}")
        event = decode(Event.kinds[name], content)
        if not 0 <= event.time < LATEST:
            raise ValueError(f"time: {event.time} is none")
        return event
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = error if type(error) is ValueError else ""  # of `decode`
        raise damaged(where, number, why) from None


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
