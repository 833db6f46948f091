"""Where a run shows itself: on a console, in gauges, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from tune.monitor.metrics import Gauges

PLAIN_INTERVAL = 30.0  # seconds between lines where there is no terminal


@dataclass(frozen=True)
class Screen:
    """A console for lines, gauges for numbers, and a monotonic clock."""

    console: Console
    gauges: Gauges
    now: Callable[[], float] = time.monotonic

    def print(self, text: str) -> None:
        """Print a line as it is, however long."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def line(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a line that changes; yield what changes it.

        Without a terminal it is printed every half minute, so that a log neither fills up nor falls
        silent.
        """
        if self.console.is_terminal:
            with self.console.status(text) as status:
                yield status.update
            return
        due = Every(PLAIN_INTERVAL, self.now)
        yield lambda text: self.print(text) if due.passed() else None


class Every:
    """Says, when asked, whether an interval, in seconds, has passed since it last said so."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds, self._now = seconds, now
        self._last = now()

    def passed(self) -> bool:
        """Whether the interval has passed; then the next one begins."""
        if self._now() - self._last < self._seconds:
            return False
        self._last = self._now()
        return True


def duration(seconds: float) -> str:
    """Say seconds as people do: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
