"""The journal of a run, `events.jsonl`: append-only, and the one truth that a resume replays."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from errors import InputError


class Journal:
    """Appends events, each a line of JSON, flushed before the call returns.

    Args:
        path: the file; a line cut off by a crash is removed from its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _drop_torn_line(path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, **fields: Any) -> None:
        """Append one event. NaN and infinities are written as null, which JSON has."""
        line = {"time": round(time.time(), 3), "event": event, **_finite(fields)}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """All whole events of a journal, in order; none where there is no file.

    Raises:
        InputError: a line is not what was written.
    """
    if not path.exists():
        return []
    return events_in(path.read_bytes(), path)


def events_in(content: bytes, where: str | Path) -> list[dict[str, Any]]:
    """All whole events of a journal's content, in order.

    Raises:
        InputError: a line is not what was written.
    """
    *whole, _ = content.split(b"\n")  # the last one is empty, or torn
    return [_event(line, f"{where}: line {number}") for number, line in enumerate(whole, start=1)]


def holds_run(events: Iterable[Mapping[str, Any]], where: str | Path, resume: bool) -> bool:
    """Whether a journal is of a run; one that was refused before its first trial is none.

    Raises:
        InputError: it is, and `resume` is off.
    """
    found = any(event["event"] == "trial_started" for event in events)
    if found and not resume:
        raise InputError(
            f"{where} already holds a run; --resume continues it, --name starts another"
        )
    return found


def _event(line: bytes, where: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
        if isinstance(event, dict) and isinstance(event["event"], str):
            return event
    except (ValueError, LookupError):
        pass
    raise InputError(f"{where} is damaged; restore the file from a copy, or --name starts another")


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
