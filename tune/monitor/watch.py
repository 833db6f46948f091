"""What a run shows of itself, stage by stage: a line or a live table, and gauges."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from records import Cell, JournalWriter, StageEnded
from terminal import say
from tune.monitor import metrics
from tune.monitor.metrics import Gauges, Rate
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

PLAIN_INTERVAL = 30.0  # seconds between lines where there is no terminal
SURE = 3.0  # seconds of encoding before a speed is shown: jobs end several at once


@dataclass(frozen=True)
class Watch:
    """Shows each stage of a run on a console and in gauges; the journal gets the time of each.

    `now` is a monotonic clock.
    """

    console: Console
    gauges: Gauges
    journal: JournalWriter
    now: Callable[[], float] = time.monotonic

    def print(self, text: str) -> None:
        """Print a line as it is, however long."""
        say(self.console, text)

    @contextmanager
    def line(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a line that changes; yield what changes it.

        Without a terminal it is printed every half minute, so that a log neither fills up nor falls
        silent.
        """
        if self.console.is_terminal:
            spinner = "dots" if self.console.encoding.startswith("utf") else "line"
            with self.console.status(Text(text), spinner=spinner) as status:
                yield lambda text: status.update(Text(text))
            return
        due, latest, lock = Every(PLAIN_INTERVAL, self.now), text, threading.Lock()

        def show() -> None:
            with lock:
                if due.passed():
                    self.print(latest)

        def change(text: str) -> None:
            nonlocal latest
            latest = text
            show()

        with _repeated(show):
            yield change

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Say how long a stage took, once it has ended."""
        began = self.now()
        yield
        seconds = self.now() - began
        self.journal.write(StageEnded(stage, round(seconds, 3)))
        self.print(f"{stage}: {duration(seconds)}")

    @contextmanager
    def features(self, splits: str) -> Iterator[Callable[[int, int], None]]:
        """Show the feature stage; yield what takes the number of images done, and of all."""
        what, rate = f"features of {splits}", Rate(after=SURE)  # workers' start is not counted
        counts, gauges = (0, 0), self.gauges
        with self.line(what) as line:

            def show(done: int, total: int) -> None:
                nonlocal counts
                counts = (done, total)
                speed = rate.at(self.now(), done)
                text = f"{what}: {done}/{total} images"
                if speed and done < total:
                    left = duration((total - done) / speed)
                    text += f", {speed:.0f} a second, about {left} to go"
                line(text)
                gauges.update(
                    lambda: metrics.feature_readings(splits, done, total, speed), done == total
                )

            yield show
        if counts[1]:
            gauges.update(lambda: metrics.feature_readings(splits, *counts, 0.0), last=True)

    @contextmanager
    def final_fits(
        self,
        search: Search,
        clock: TimeBudget,
        left: Mapping[Cell, int],
        spent: Mapping[Cell, float],
    ) -> Iterator[Callable[[Cell, float, bool], None]]:
        """Show the final fits; yield what takes each one's cell, device-seconds and success.

        By cell, `left` counts the fits still to be made, and `spent` has the device-seconds of
        those that were made before.
        """
        to_make, seconds = Counter(left), dict(spent)
        failed: Counter[Cell] = Counter()
        gauges = self.gauges
        clock.begin_fits()
        with self.line(f"final fits: {to_make.total()} left") as line:

            def show(last: bool = False) -> None:
                to_go = clock.fits_left(search, to_make, failed)
                some = f" ({failed.total()} failed)" if failed else ""
                line(f"final fits: {to_make.total()} left{some}, about {duration(to_go)} to go")
                gauges.update(lambda: metrics.final_readings(to_make, seconds, to_go), last)

            def ended(cell: Cell, took: float, made: bool) -> None:
                if made:
                    seeds = search.cells[cell].seeds
                    clock.fit_ended(search, cell, seeds - to_make[cell], took)
                    to_make[cell] -= 1
                    seconds[cell] = seconds.get(cell, 0.0) + took
                else:
                    failed[cell] += 1
                show()

            show(last=True)
            yield ended
        # What is left now failed, or time does not allow it: nothing waits for it.
        gauges.update(lambda: metrics.final_readings(to_make, seconds, 0.0), last=True)


@contextmanager
def _repeated(work: Callable[[], None]) -> Iterator[None]:
    """Do some work every few seconds while the block runs, in a thread."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(PLAIN_INTERVAL / 10):
            work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
