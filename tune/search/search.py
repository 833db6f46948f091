"""The search over all cells: whose turn it is, which trials go on, and which win.

`tune/trials/` adapts it to Ray's Tuner; a test or a simulation drives it with a loop. Every
decision is written to the journal before it takes effect, so that `replay` can rebuild the state
of a killed run from `events.jsonl` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from partitions import Partition, named
from records import (
    Cell,
    End,
    Event,
    JournalWriter,
    RunStarted,
    SearchClosed,
    TrialEnded,
    TrialEvent,
    TrialPaused,
    TrialPromoted,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
    damaged,
)
from search_spaces import Experiment, Params
from tune.search.cell_search import CellSearch
from tune.search.sampler import completed
from tune.search.trial_record import DEFAULT_ORIGIN, FROM_PARTITION, SAMPLER, TrialRecord
from tune.search.warm_start import transferred

DEFAULT = 0
"""The number of a cell's first trial: the recipe's default."""
LEAD = 1.5
"""How far the smallest partition's cells are served ahead of the largest's, in budgets.

It applies where configurations are handed up: the next partitions begin with most of what one has
learned.
"""

Undecided = dict[tuple[Cell, int], End | None]
"""Replayed trials that run or were cut, and how the last report of each ends it, if it does."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run. `probe` is the configuration of the probe whose head it starts from."""

    cell: Cell
    number: int
    config: Params
    probe: Params | None


class Search:
    """All cells of an experiment, with the number of training images of each partition.

    The sampler proposes the configuration of a cell's trial, by its number.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: JournalWriter,
        images: Mapping[Partition, int],
        sampler: Callable[[CellSearch, int], Params] = CellSearch.sampled,
    ) -> None:
        self._journal, self._sampler = journal, sampler
        self._probe = experiment.probe
        self._awaited = any(method.needs_probe for method in experiment.methods.values())
        self._transfer = experiment.search.transfer
        by_size = sorted(experiment.data.amounts, key=images.__getitem__)
        self._partitions = len(by_size)
        self._listeners: list[Callable[[Cell, int], None]] = []
        self.closed: str | None = None
        self.cells = {
            cell: CellSearch(
                cell, experiment, images[cell.partition], by_size.index(cell.partition)
            )
            for cell in experiment.cells
        }

    def subscribe(self, on_end: Callable[[Cell, int], None]) -> None:
        """Call `on_end` with the cell and the number of every trial that ends for good."""
        self._listeners.append(on_end)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to propose or to wait for."""
        return bool(self.closed) or all(state.finished for state in self.cells.values())

    @property
    def failed(self) -> int:
        """The number of trials that failed."""
        states = self.cells.values()
        return sum(trial.ended == "failed" for state in states for trial in state.trials.values())

    def close(self, reason: str) -> None:
        """Propose nothing more, and end every running trial at its next report."""
        if self.closed is not None:
            return
        self.closed = reason
        self._journal.write(SearchClosed(reason))
        for cell, state in self.cells.items():
            for number in state.under_way("paused"):
                self.end(cell, number, "cut", reason)

    @property
    def unfinished(self) -> list[tuple[Cell, int]]:
        """Trials that may yet go on, by cell and number: a resumed run takes up what was cut."""
        return [
            (cell, number)
            for cell, state in self.cells.items()
            for number, trial in state.trials.items()
            if trial.ended in (None, "cut")
        ]

    def winners(self) -> dict[Cell, Winner]:
        """Return the winner of every cell that has one."""
        found = {cell: state.winner() for cell, state in self.cells.items()}
        return {cell: winner for cell, winner in found.items() if winner}

    # Proposing

    def propose(self) -> Proposal | None:
        """Return the next trial; None while every cell that has one left waits.

        First comes what a killed run was doing, then the probes that other cells wait for, then
        every cell's first trial, of methods that are solved before those that are trained, then the
        cell with the smallest share of its budget served. Smaller partitions are ahead if they hand
        up what they find. In a cell, promotions come before new configurations. Cells whose probe
        is not decided wait.
        """
        if self.closed:
            return None
        waiting = [s for s in self.cells.values() if s.has_next and self._ready(s)]
        if not waiting:
            return None
        state = min(waiting, key=self._turn)
        number = self._next(state)
        trial = state.trials[number]
        self._journal.write(
            TrialStarted(state.cell, number, trial.origin, trial.config, trial.probe)
        )
        state.start(number)
        return Proposal(state.cell, number, trial.config, trial.probe)

    def _turn(self, state: CellSearch) -> tuple[bool, bool, bool, bool, float]:
        """Return where a cell stands in the queue; the lowest is served."""
        probe = state.cell.method == self._probe and self._awaited
        lag = 0.0
        if self._transfer and not probe:
            lag = LEAD * state.place / max(1, self._partitions - 1)
        served = state.proposed / state.budget
        trained = state.takes_steps and not state.proposed
        return not state.orphans, not probe, state.proposed > 0, trained, served + lag

    def _next(self, state: CellSearch) -> int:
        """Return the number of the cell's next trial: an orphan, a promoted or a new one."""
        if state.orphans:
            return state.orphans.pop(0)
        promotable = state.scheduler.promotable()
        if promotable is not None:
            return promotable
        number = len(state.trials)
        state.trials[number] = self._new_trial(state, number)
        return number

    def _new_trial(self, state: CellSearch, number: int) -> TrialRecord:
        origin, config = self._new_config(state, number)
        probe = self._probe_config(state.cell) if state.needs_probe else None
        if state.needs_probe and probe is None and config.get("head_start", "probe") == "probe":
            config = {**config, "head_start": "zeros"}  # its probe found nothing to start from
        return TrialRecord(config, probe, origin)

    def _new_config(self, state: CellSearch, number: int) -> tuple[str, Params]:
        """Return a configuration and its origin."""
        if number == DEFAULT:
            return DEFAULT_ORIGIN, state.space.first()
        if number <= state.budget / 2 and state.transferred < self._transfer:
            found = transferred(state, self.cells)
            if found:
                partition, config = found
                config = completed(state.space, config, state.entropy(number))
                return f"{FROM_PARTITION}{named(partition)}", config
        return SAMPLER, self._sampler(state, number)

    def _ready(self, state: CellSearch) -> bool:
        return not state.needs_probe or self.cells[self._probe_cell(state.cell)].finished

    def _probe_cell(self, cell: Cell) -> Cell:
        assert self._probe is not None  # an experiment that needs a probe has one
        return Cell(cell.partition, self._probe)

    def _probe_config(self, cell: Cell) -> Params | None:
        winner = self.cells[self._probe_cell(cell)].winner()
        return winner.config if winner else None

    # Reports

    def report(self, cell: Cell, number: int, report: TrialReport) -> bool:
        """Take a trial's report; returns whether the trial goes on."""
        state = self.cells[cell]
        if state.status(number) != "running":
            return False
        if report.milestone not in state.trials[number].reports:
            self._journal.write(TrialReported(cell, number, report))
        how = state.take(number, report)
        if how:
            self.end(cell, number, how, "loss is not finite" if how == "diverged" else "")
        elif self.closed:
            self.end(cell, number, "cut", self.closed)
        elif state.scheduler.waits(number):
            self._judge(state, number)
        return state.status(number) == "running"

    def _judge(self, state: CellSearch, number: int) -> None:
        """Let a trial at a rung go on at once, or wait there; stop it if it would wait in vain."""
        at = (state.cell, number, max(state.trials[number].reports))
        if state.scheduler.admits(number):
            self._journal.write(TrialPromoted(*at))
            state.start(number)
        elif number not in state.scheduler.hopeless():
            self._journal.write(TrialPaused(*at))
        self._settle(state)

    def end(self, cell: Cell, number: int, how: End, reason: str = "") -> None:
        """End a trial; a second end of the same trial changes nothing."""
        state = self.cells[cell]
        if state.trials[number].ended:
            return
        self._journal.write(TrialEnded(cell, number, how, reason))
        state.end(number, how)
        if how != "cut":
            for on_end in self._listeners:
                on_end(cell, number)
            self._settle(state)

    def _settle(self, state: CellSearch) -> None:
        """Stop the trials that wait in vain."""
        while not self.closed and (hopeless := state.scheduler.hopeless()):
            self.end(state.cell, hopeless[0], "stopped")

    # Resuming

    def replay(self, events: Iterable[Event], start: RunStarted | None = None) -> None:
        """Rebuild the state that wrote `events`; trials left running will be proposed again.

        Trials of cells that the experiment no longer has are passed over. `start` is written once
        the events are known to fit, before what follows from them.

        Raises:
            InputError: an event does not fit those before it, or the search space.
        """
        undecided: Undecided = {}
        for line, event in enumerate(events, start=1):
            if isinstance(event, TrialEvent | Winner) and event.cell in self.cells:
                try:
                    self.cells[event.cell].check(event)
                except ValueError as error:
                    why = f"trial {event.trial} of {event.cell}: {error}"
                    raise damaged(self._journal.path, line, why) from None
                self._replay(event, undecided)
        if start:
            self._journal.write(start)
        for cell, state in self.cells.items():
            self._decide(state, {n: how for (c, n), how in undecided.items() if c == cell})
            self._settle(state)

    def _replay(self, event: TrialEvent | Winner, undecided: Undecided) -> None:
        state, number, key = self.cells[event.cell], event.trial, (event.cell, event.trial)
        match event:
            case TrialStarted(config=config, probe=probe, origin=origin):
                state.trials.setdefault(number, TrialRecord(config, probe, origin))
                state.start(number)
                undecided[key] = None
            case TrialReported(report=report):
                undecided[key] = state.take(number, report)
            case TrialPromoted():
                state.start(number)
            case TrialPaused():
                state.trials[number].ended = None  # where it was cut before
                undecided.pop(key, None)
            case TrialEnded(status="cut"):
                state.end(number, "cut")
                undecided.setdefault(key)
            case TrialEnded(status=how):
                state.end(number, how)
                undecided.pop(key, None)

    def _decide(self, state: CellSearch, undecided: Mapping[int, End | None]) -> None:
        """Decide what becomes of a cell's replayed trials that were running or were cut.

        `undecided` says how the last report of each ended it, if it did.
        """
        for number in undecided:
            state.trials[number].ended = None
        for number, how in sorted(undecided.items()):
            if state.trials[number].ended:
                continue  # an earlier one made it hopeless
            if how:  # the run was killed between the trial's last report and its end
                self.end(state.cell, number, how)
            elif state.scheduler.waits(number):
                self._judge(state, number)
            if state.status(number) == "running":
                state.orphans.append(number)
