"""What a run shows of itself, stage by stage: a line or a live table, and gauges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from records import Cell, JournalWriter, StageEnded
from tune.monitor import metrics
from tune.monitor.metrics import Rate
from tune.monitor.screen import Screen, duration
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

SURE = 3.0  # seconds of encoding before a speed is shown: jobs end several at once


class Watch:
    """Shows each stage of a run on a screen; the journal gets the time of each."""

    def __init__(self, screen: Screen, journal: JournalWriter) -> None:
        self.screen, self._journal = screen, journal

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Say how long a stage took, once it has ended."""
        began = self.screen.now()
        yield
        seconds = self.screen.now() - began
        self._journal.write(StageEnded(stage, round(seconds, 3)))
        self.screen.print(f"{stage}: {duration(seconds)}")

    @contextmanager
    def features(self, splits: str) -> Iterator[Callable[[int, int], None]]:
        """Show the feature stage; yield what takes the number of images done, and of all."""
        what, rate = f"features of {splits}", Rate(after=SURE)  # workers' start is not counted
        counts, gauges = (0, 0), self.screen.gauges
        with self.screen.line(what) as line:

            def show(done: int, total: int) -> None:
                nonlocal counts
                counts = (done, total)
                speed = rate.at(self.screen.now(), done)
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
        gauges = self.screen.gauges
        with self.screen.line(f"final fits: {to_make.total()} left") as line:

            def show(last: bool = False) -> None:
                to_go = clock.fits_left(search, to_make, seconds, failed)
                some = f" ({failed.total()} failed)" if failed else ""
                line(f"final fits: {to_make.total()} left{some}, about {duration(to_go)} to go")
                gauges.update(lambda: metrics.final_readings(to_make, seconds, to_go), last)

            def ended(cell: Cell, took: float, made: bool) -> None:
                if made:
                    to_make[cell] -= 1
                    seconds[cell] = seconds.get(cell, 0.0) + took
                else:
                    failed[cell] += 1
                show()

            show(last=True)
            yield ended
        # What is left now failed, or time does not allow it: nothing waits for it.
        gauges.update(lambda: metrics.final_readings(to_make, seconds, 0.0), last=True)
