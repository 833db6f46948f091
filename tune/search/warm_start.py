"""What a cell learns from smaller partitions: their best configurations, tried early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from partitions import Partition
from records import Cell
from search_spaces import Params
from tune.search.cell_search import CellSearch
from tune.search.trial_record import TrialRecord

ENOUGH = 3
"""Trials that a partition has judged before its best configurations are handed up."""


def transferred(
    state: CellSearch, cells: Mapping[Cell, CellSearch]
) -> tuple[Partition, Params] | None:
    """Return a configuration for a cell to try, and the partition it did well on.

    Smaller partitions of the same method are asked in turn, the nearest first: for their best
    configurations, then for their second best, and so on. Configurations that the cell has tried
    are passed over. The result is None if no configuration is due.
    """
    smaller = sorted(
        (
            cell
            for cell, other in cells.items()
            if cell.method == state.cell.method and other.place < state.place
        ),
        key=lambda cell: -cells[cell].place,
    )
    ranked = {cell.partition: list(_ranked(cells[cell])) for cell in smaller}
    tried = [state.searched(trial.config) for trial in state.trials.values()]
    for rank in range(max(map(len, ranked.values()), default=0)):
        for partition, configs in ranked.items():
            if len(configs) < max(ENOUGH, rank + 1):
                continue
            if state.searched(configs[rank]) not in tried:
                return partition, configs[rank]
    return None


def _ranked(state: CellSearch) -> Iterator[Params]:
    """Yield the configurations that were judged, the best first: by rung, then by score."""
    judged = [(n, t) for n, t in state.trials.items() if t.reports and t.ended != "diverged"]
    yield from (trial.config for _, trial in sorted(judged, key=_place))


def _place(numbered: tuple[int, TrialRecord]) -> tuple[float, float, int]:
    number, trial = numbered
    reached = max(trial.reports)
    return -reached, -trial.reports[reached], number
