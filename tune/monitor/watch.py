"""What a run shows of itself, stage by stage: a line or a live table, and gauges."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from records import Cell, JournalWriter, StageEnded, find_final_fit
from tune.monitor import metrics
from tune.monitor.metrics import Gauges, Rate
from tune.monitor.progress import PLAIN_INTERVAL, Progress, duration
from tune.search.search import Search
from tune.search.time_budget import TimeBudget
from tune.trials.final_fits import FinalFitJob

SURE = 3.0  # seconds of encoding before a speed is told: jobs end several at once


class Watch:
    """Shows each stage of a run.

    In a terminal a line follows the stage. Without one, a plain line is printed every half
    minute, so that a log neither fills up nor falls silent.

    Args:
        search: the run's.
        journal: told of each stage that has ended.
        clock: tells how long things take.
        console: where to.
        gauges: kept up to date.
        now: a monotonic clock.
    """

    def __init__(
        self,
        search: Search,
        journal: JournalWriter,
        clock: TimeBudget,
        console: Console,
        gauges: Gauges,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.console = clock, console
        self._search, self._journal, self._gauges = search, journal, gauges
        self._now = now

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Says how long a stage took, once it has ended."""
        began = self._now()
        yield
        seconds = self._now() - began
        self._journal.write(StageEnded(stage, round(seconds, 3)))
        self.console.print(f"{stage}: {duration(seconds)}", highlight=False)

    def in_time(self, fit: FinalFitJob) -> bool:
        """Whether a final fit may begin: every winner's first always, for a whole table."""
        return fit.seed == 0 or self.clock.allows(self._search, fit.cell)

    def search(self) -> Progress:
        """Shows the search, as one of the Tuner's callbacks."""
        return Progress(self._search, self.clock, self.console, self._gauges, self._now)

    @contextlib.contextmanager
    def features(self, splits: str) -> Iterator[Callable[[int, int], None]]:
        """Shows the feature stage; yields what is to be told of images done and in all."""
        what, rate = f"features of {splits}", Rate(after=SURE)  # workers' start is not counted
        counts = (0, 0)
        with self._line(what) as line:

            def tell(done: int, total: int) -> None:
                nonlocal counts
                counts = (done, total)
                speed = rate.at(self._now(), done)
                text = f"{what}: {done}/{total} images"
                if speed and done < total:
                    left = duration((total - done) / speed)
                    text += f", {speed:.0f} a second, about {left} to go"
                line(text)
                self._gauges.update(
                    lambda: metrics.feature_readings(splits, done, total, speed), done == total
                )

            yield tell
        if counts[1]:
            self._gauges.update(lambda: metrics.feature_readings(splits, *counts, 0.0), last=True)

    @contextlib.contextmanager
    def final_fits(
        self, wanted: list[FinalFitJob], pending: list[FinalFitJob], run_dir: Path
    ) -> Iterator[Callable[[FinalFitJob, str | None], None]]:
        """Shows the final fits; yields what is to be told of each that has ended.

        Beside the fit that is why it failed, if it did.

        Args:
            wanted: all of them.
            pending: those that are still to be made.
        """
        left = Counter({fit.cell: 0 for fit in wanted})
        left.update(fit.cell for fit in pending)
        failed: Counter[Cell] = Counter()
        spent: dict[Cell, float] = {}
        for fit in wanted:
            if fit not in pending:
                spent[fit.cell] = spent.get(fit.cell, 0.0) + seconds_of(fit, run_dir)
        with self._line(f"final fits: {len(pending)} left") as line:

            def show(last: bool = False) -> None:
                to_go = self.clock.fits_left(self._search, left, spent, failed)
                some = f" ({failed.total()} failed)" if failed else ""
                line(f"final fits: {left.total()} left{some}, about {duration(to_go)} to go")
                self._gauges.update(lambda: metrics.final_readings(left, spent, to_go), last)

            def tell(fit: FinalFitJob, failure: str | None) -> None:
                if failure:
                    failed[fit.cell] += 1
                else:
                    left[fit.cell] -= 1
                    spent[fit.cell] = spent.get(fit.cell, 0.0) + seconds_of(fit, run_dir)
                show()

            show(last=True)
            yield tell
        # What is left now failed, or time does not allow it: nothing waits for it.
        self._gauges.update(lambda: metrics.final_readings(left, spent, 0.0), last=True)

    @contextlib.contextmanager
    def _line(self, text: str) -> Iterator[Callable[[str], None]]:
        """A line that changes, in a terminal; one every half minute without."""
        if self.console.is_terminal:
            with self.console.status(text) as status:
                yield status.update
            return
        printed = self._now()

        def print_now_and_then(text: str) -> None:
            nonlocal printed
            if self._now() - printed >= PLAIN_INTERVAL:
                printed = self._now()
                self.console.print(text, highlight=False, soft_wrap=True)

        yield print_now_and_then


def seconds_of(fit: FinalFitJob, run_dir: Path) -> float:
    """Return what a final fit took according to its file; 0 without a file."""
    result = find_final_fit(fit.path(run_dir))
    return result.seconds if result else 0.0
