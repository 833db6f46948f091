"""Replay finished runs: the time left that they would have shown, beside what was left.

    python -m benchmarks.time_left results/digits --slots 2

It prints Markdown rows: at shares of a run's time, the seconds to its end, those expected, and
their ratio. The journal has the times of all but the final fits, which are those of their files:
it replays a run's own folder, no copy.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from errors import InputError
from records import (
    JOURNAL,
    JournalWriter,
    RunFinished,
    StageEnded,
    final_fit_path,
    read_final_fits,
    read_journal,
)
from search_spaces.recorded import read_recorded
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

TEST_SHARE = 0.5
"""Of the seconds of train and validation, those of the test set."""
SHARES = (0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9)
Row = tuple[float, float, float | None]
"""A share of a run's time, the seconds left then, and those expected; None if nothing was shown."""


class Replay:
    """A finished run, to be looked at as it was at any time."""

    def __init__(self, run_dir: Path, slots: int) -> None:
        self._experiment, _ = read_recorded(run_dir)
        self._slots = slots
        self._events = read_journal(run_dir / JOURNAL)
        if not isinstance(self._events[-1], RunFinished):
            raise InputError(f"{run_dir}: its last run did not finish")
        fits = read_final_fits(run_dir)
        self._images = {cell.partition: by_seed[0].n_train for cell, by_seed in fits.items()}
        self._fits = sorted(
            (final_fit_path(run_dir, cell, seed).stat().st_mtime, cell, fit.seconds)
            for cell, by_seed in fits.items()
            for seed, fit in by_seed.items()
        )
        self._stages = {e.stage: e for e in self._events if isinstance(e, StageEnded)}

    def rows(self) -> Iterator[Row]:
        """Yield what it would have shown, at each of `SHARES`."""
        began, ended = self._events[0].time, self._events[-1].time
        for share in SHARES:
            now = began + share * (ended - began)
            yield share, ended - now, self.expected(now)

    def expected(self, now: float) -> float | None:
        """Return the time left that it showed at a time, in seconds."""
        features, search = self._stages["features"], self._stages["search"]
        fits = self._stages["final fits"].time - self._stages["final fits"].seconds
        if now < features.time or search.time < now < fits:
            return None
        hands = [min(now, fits)]
        clock = self._clock(hands)
        state = self._search_at(now)
        if now <= search.time:
            return clock.left(state)
        clock.begin_fits()
        hands[0], left = now, {cell: found.seeds for cell, found in state.cells.items()}
        for _, cell, seconds in (fit for fit in self._fits if fit[0] <= now):
            clock.fit_ended(state, cell, state.cells[cell].seeds - left[cell], seconds)
            left[cell] -= 1
        return clock.fits_left(state, left)

    def _clock(self, hands: list[float]) -> TimeBudget:
        features = self._stages["features"]
        tests = features.seconds * TEST_SHARE
        return TimeBudget(
            self._experiment, self._slots, None, self._events[0].time, tests, lambda: hands[0]
        )

    def _search_at(self, now: float) -> Search:
        """Return the search with what was in its journal at a time; what ran then runs."""
        with tempfile.TemporaryDirectory() as folder:
            search = Search(self._experiment, JournalWriter(Path(folder) / JOURNAL), self._images)
            search.replay([event for event in self._events if event.time <= now])
        for state in search.cells.values():
            state.orphans.clear()
        return search


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rows of every run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--slots", type=int, default=2, help="trials that ran at once")
    options = parser.parse_args(arguments)
    print("| run | at | left, s | expected, s | ratio |\n|---|---:|---:|---:|---:|")
    for run in options.runs:
        for share, left, expected in Replay(run, options.slots).rows():
            shown = ("", "") if expected is None else (f"{expected:.0f}", f"{expected / left:.2f}")
            print(f"| {run} | {share:.0%} | {left:.0f} | {shown[0]} | {shown[1]} |")


if __name__ == "__main__":
    main()
