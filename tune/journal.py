"""The journal of a run, `events.jsonl`: append-only, and the one truth that a resume replays."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any


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
    """All whole events of a journal, in order; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


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
