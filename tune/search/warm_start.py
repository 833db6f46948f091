"""What a cell learns from smaller partitions: their best configurations, tried early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from records.cell import Cell
from search_spaces.distributions import Params
from tune.search.cell_search import CellSearch, TrialRecord

ENOUGH = 3
"""Trials that a partition has judged before its best configurations are handed on."""


def transferred(
    search: CellSearch, cells: Mapping[Cell, CellSearch]
) -> tuple[float, Params] | None:
    """A configuration for `search` to try, and the partition it did well on; None if none is due.

    Smaller partitions of the same method are asked in turn, the nearest first: for their best
    configurations, then for their second best, and so on. A configuration that the cell tried
    already is passed over.
    """
    smaller = sorted(
        (g for g in cells if g.method == search.cell.method
         and g.partition < search.cell.partition),
        reverse=True,
    )  # fmt: skip
    ranked = {g.partition: list(_ranked(cells[g])) for g in smaller}
    tried = [search.searched(trial.config) for trial in search.trials.values()]
    for rank in range(max(map(len, ranked.values()), default=0)):
        for partition, configs in ranked.items():
            if len(configs) >= max(ENOUGH, rank + 1):
                candidate = search.searched(configs[rank])
                if candidate not in tried:
                    return partition, configs[rank]
    return None


def _ranked(search: CellSearch) -> Iterator[Params]:
    """Configurations that were judged, the best first: by the highest rung, then the score."""
    judged = [(n, t) for n, t in search.trials.items() if t.reports and t.status != "diverged"]
    yield from (trial.config for _, trial in sorted(judged, key=_place))


def _place(numbered: tuple[int, TrialRecord]) -> tuple[float, float, int]:
    number, trial = numbered
    reached = max(trial.reports)
    return -reached, -trial.reports[reached], number
