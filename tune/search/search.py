"""The search over all cells: whose turn it is, who goes on, who wins.

Nothing here knows Ray: `tune/trials/tuner.py` adapts it to one Tuner, and a test or a simulation
drives it with a loop. Every decision is written to the journal before it takes effect, so that
`replay` can rebuild the state of a killed run from `events.jsonl` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from optuna.storages import BaseStorage

from records import (
    Cell,
    Event,
    JournalWriter,
    SearchClosed,
    TrialEnded,
    TrialEvent,
    TrialPaused,
    TrialPromoted,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
)
from search_spaces.distributions import Params
from search_spaces.schema import Experiment
from tune.search.cell_search import (
    DEFAULT_ORIGIN,
    FROM_PARTITION,
    SAMPLER,
    CellSearch,
    TrialRecord,
)
from tune.search.sampler import DEFAULT
from tune.search.warm_start import transferred

__all__ = ["CellSearch", "Proposal", "Search", "TrialRecord"]


LEAD = 1.5
"""How far the smallest partition's cells are served ahead of the largest's, in budgets, where
configurations are handed up: most of what one partition learns, the next ones begin with."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run. `probe` is the configuration of the probe whose head it starts from."""

    cell: Cell
    number: int
    config: Params
    probe: Params | None


class Search:
    """All cells of an experiment.

    Args:
        experiment: names the cells and their budgets.
        journal: receives every decision.
        storage: holds the cells' studies; empty.
        images: training images of each partition, by which a rung may come too early to judge.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: JournalWriter,
        storage: BaseStorage,
        images: Mapping[float, int],
    ) -> None:
        self._journal = journal
        self._probe = experiment.probe
        self._awaited = any(method.needs_probe for method in experiment.methods.values())
        self._transfer = experiment.search.transfer
        self._enough = experiment.search.asha.reduction_factor
        self.on_end: Callable[[Cell, int], None] = lambda cell, number: None
        """Called with every trial that has ended for good."""
        self.closed: str | None = None
        self.cells = {
            cell: CellSearch(cell, experiment, storage, images[partition])
            for partition in experiment.data.partitions
            for method in experiment.methods
            for cell in (Cell(partition, method),)
        }

    @property
    def finished(self) -> bool:
        """Whether nothing is left to propose or to wait for."""
        if self.closed:
            return True
        return all(search.finished for search in self.cells.values())

    def close(self, reason: str) -> None:
        """Propose nothing more, and end every running trial at its next report."""
        if self.closed is not None:
            return
        self.closed = reason
        self._journal.write(SearchClosed(reason))
        for cell, search in self.cells.items():
            for number, trial in search.trials.items():
                if trial.status == "paused":
                    self.end(cell, number, "cut", reason)

    @property
    def unfinished(self) -> list[tuple[Cell, int]]:
        """Trials that may yet go on, by cell and number: a resumed run takes up what was cut."""
        return [
            (cell, number)
            for cell, search in self.cells.items()
            for number, trial in search.trials.items()
            if trial.status in ("running", "paused", "cut")
        ]

    # Proposing

    def propose(self) -> Proposal | None:
        """The next trial; None while every cell that has one left waits for its probe or rungs.

        First what a killed run was doing, then the probes that other cells wait for, then every
        cell's first trial, then the cell with the smallest share of its budget served, smaller
        partitions ahead if they hand up what they find. In the cell promotions come before new
        configurations. Cells whose probe is not decided wait.
        """
        if self.closed:
            return None
        waiting = [s for s in self.cells.values() if s.has_next and self._ready(s)]
        if not waiting:
            return None
        search = min(waiting, key=self._turn)
        number = self._next(search)
        trial = search.trials[number]
        self._journal.write(
            TrialStarted(search.cell, number, trial.origin, trial.config, trial.probe)
        )
        trial.status = "running"
        search.start(number)
        return Proposal(search.cell, number, trial.config, trial.probe)

    def _turn(self, search: CellSearch) -> tuple[bool, bool, bool, float]:
        """Where a cell stands in the queue; the lowest is served."""
        probe = search.cell.method == self._probe and self._awaited
        lag = 0.0
        if self._transfer and not probe:
            partitions = sorted({cell.partition for cell in self.cells})
            place = partitions.index(search.cell.partition)
            lag = LEAD * place / max(1, len(partitions) - 1)
        served = search.proposed / search.budget
        return not search.orphans, not probe, search.proposed > 0, served + lag

    def _next(self, search: CellSearch) -> int:
        """The number of the cell's next trial: an orphan, a promoted or a new one."""
        if search.orphans:
            number = search.orphans.pop(0)
            self._adopt(search, number)
            return number
        promotable = search.rungs.promotable()
        if promotable is not None:
            return promotable
        number = len(search.trials)
        search.trials[number] = self._ask(search, number)
        return number

    def _ask(self, search: CellSearch, number: int) -> TrialRecord:
        """A new trial, with the probe that its partition has by now."""
        origin, given = DEFAULT_ORIGIN if number == DEFAULT else SAMPLER, None
        early = 0 < number <= search.budget / 2
        if early and search.transferred < self._transfer:
            found = transferred(search, self.cells, self._enough)
            if found:
                origin, given = f"{FROM_PARTITION}{found[0]:g}", found[1]
        config = search.study.ask(number, given)
        probe = self._probe_config(search.cell) if search.needs_probe else None
        if search.needs_probe and probe is None and config.get("head_start", "probe") == "probe":
            config = {**config, "head_start": "zeros"}  # its probe found nothing to start from
        return TrialRecord(config, probe, origin)

    def _adopt(self, search: CellSearch, number: int) -> None:
        """Take up a trial of a killed run as it was, its probe too."""
        trial = search.trials[number]
        search.study.adopt(number, trial.config)
        for milestone, score in trial.reports.items():
            search.study.report(number, milestone, score)

    def _ready(self, search: CellSearch) -> bool:
        if not search.needs_probe:
            return True
        return self.cells[self._probe_cell(search.cell)].finished

    def _probe_cell(self, cell: Cell) -> Cell:
        assert self._probe is not None  # an experiment that needs a probe has one
        return Cell(cell.partition, self._probe)

    def _probe_config(self, cell: Cell) -> Params | None:
        winner = self.cells[self._probe_cell(cell)].winner()
        return winner.config if winner else None

    # Reports

    def report(self, cell: Cell, number: int, report: TrialReport) -> bool:
        """Take a trial's report; returns whether the trial goes on."""
        search = self.cells[cell]
        trial = search.trials[number]
        if trial.status != "running":
            return False
        if report.milestone not in trial.reports:
            self._journal.write(TrialReported(cell, number, report))
        end = search.take(number, report)
        if end:
            self.end(cell, number, end, "loss is not finite" if end == "diverged" else "")
        elif self.closed:
            self.end(cell, number, "cut", self.closed)
        elif search.rungs.waits(number):
            self._judge(search, number)
        return trial.status == "running"

    def _judge(self, search: CellSearch, number: int) -> None:
        """A trial at a rung goes on at once, or waits there, unless it would wait in vain."""
        trial = search.trials[number]
        at = (search.cell, number, max(trial.reports))
        if search.rungs.admits(number):
            self._journal.write(TrialPromoted(*at))
            search.start(number)
        else:
            if number not in search.rungs.hopeless():
                self._journal.write(TrialPaused(*at))
            trial.status = "paused"
        self._settle(search)

    def end(self, cell: Cell, number: int, status: str, reason: str = "") -> None:
        """A trial has ended; a second end of the same trial changes nothing."""
        search = self.cells[cell]
        trial = search.trials[number]
        if trial.status not in ("running", "paused"):
            return
        self._journal.write(TrialEnded(cell, number, status, reason))
        trial.status = status
        if number in search.study.asked:
            search.study.tell(number, status, trial.score)
        if status != "cut":  # a resumed run takes up what was cut
            search.rungs.end(number)
            self.on_end(cell, number)
            self._settle(search)

    def _settle(self, search: CellSearch) -> None:
        """Stop for good whoever waits in vain."""
        while not self.closed and (hopeless := search.rungs.hopeless()):
            self.end(search.cell, hopeless[0], "stopped")

    def winners(self) -> dict[Cell, Winner]:
        """The winner of every cell that has one."""
        found = {cell: search.winner() for cell, search in self.cells.items()}
        return {cell: winner for cell, winner in found.items() if winner}

    # Resuming

    def replay(self, events: Iterable[Event]) -> None:
        """Rebuild the state that wrote `events`; trials left running will be proposed again.

        Trials of cells that the experiment no longer has are passed over.
        """
        ends: dict[tuple[Cell, int], str | None] = {}  # by the last report of each trial
        for event in events:
            if not isinstance(event, TrialEvent) or event.cell not in self.cells:
                continue
            search, number = self.cells[event.cell], event.trial
            match event:
                case TrialStarted(config=config, probe=probe, origin=origin):
                    record = TrialRecord(config, probe, origin)
                    search.trials.setdefault(number, record).status = "running"
                    search.start(number)
                case TrialReported(report=report):
                    ends[search.cell, number] = search.take(number, report)
                case TrialPromoted():
                    search.start(number)
                case TrialPaused():
                    search.trials[number].status = "paused"
                case TrialEnded(status=status):
                    search.trials[number].status = status
                    if status != "cut":
                        search.rungs.end(number)
        for cell, search in self.cells.items():
            self._decide(search, {n: end for (g, n), end in ends.items() if g == cell})
            self._settle(search)
            for number, trial in sorted(search.trials.items()):
                if trial.status == "paused":
                    self._adopt(search, number)
                elif number not in search.orphans:
                    known = (trial.config, trial.status, trial.reports, trial.score)
                    search.study.replay(number, *known)

    def _decide(self, search: CellSearch, ends: Mapping[int, str | None]) -> None:
        """What becomes of replayed trials that were running or were cut.

        Args:
            ends: how the last report of a trial ended it, if it did.
        """
        alive = [n for n, t in sorted(search.trials.items()) if t.status in ("running", "cut")]
        for number in alive:
            search.trials[number].status = "running"
        for number in alive:
            end = ends.get(number)
            if search.trials[number].status != "running":
                continue  # stopped for good by one before it
            if end:  # killed between its last report and its end
                self.end(search.cell, number, end)
            elif search.rungs.waits(number):
                self._judge(search, number)
            if search.trials[number].status == "running":
                search.orphans.append(number)
