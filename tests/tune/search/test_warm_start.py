"""What does well at a partition is tried early at larger ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from records import Cell, TrialStarted, read_journal
from tests.tune.search.simulated import (
    ZEROS,
    Simulation,
    a_report,
    experiment,
    rough,
    rungs_of,
    smooth,
)
from tune.search.cell_search import CellSearch
from tune.search.search import LEAD, Search
from tune.search.trial_record import TrialRecord
from tune.search.warm_start import transferred

METHODS = {"zeros": ZEROS}
ONE, TEN, ALL = (Cell(partition, "zeros") for partition in (1, 10, 100))


def search(path: Path, **options: Any) -> Search:
    """One method at three partitions."""
    options = {"partitions": (1, 10, 100), "trials": 8, "transfer": 2, **options}
    return Simulation(experiment(methods=METHODS, **options), path / "events.jsonl").search


def start(search: Search, cell: Cell, score: float | None = None) -> int:
    """Start a cell's next trial, whatever else is started on the way; it may report."""
    while proposal := search.propose():
        if proposal.cell == cell:
            if score is not None:
                search.report(cell, proposal.number, a_report(10, score))
            return proposal.number
    raise AssertionError("nothing left")


def origins(search: Search, cell: Cell) -> list[str]:
    return [trial.origin for trial in search.cells[cell].trials.values()]


def test_the_best_of_the_nearest_smaller_partition_comes_first(tmp_path: Path) -> None:
    cell = search(tmp_path)
    for score in (0.1, 0.2, 0.5, 0.3):
        start(cell, ONE, score)
    number = start(cell, TEN)
    trials = cell.cells[TEN].trials
    assert origins(cell, TEN)[:2] == ["default", "partition 1"]
    assert number == 1
    assert trials[1].config == cell.cells[ONE].trials[2].config


def cells_of(*partitions: float) -> dict[Cell, CellSearch]:
    """Cells of one method that nothing was tried in yet."""
    spec = experiment(methods=METHODS, partitions=partitions, trials=20)
    return {
        cell: CellSearch(cell, spec, images=1, place=place)
        for place, p in enumerate(partitions)
        for cell in [Cell(p, "zeros")]
    }


def judged(state: CellSearch, *prospects: float | None) -> None:
    """Add trials to a cell, with their prospects at the first rung if they came to it."""
    for prospect in prospects:
        config = {**state.space.first(), "lr": (len(state.trials) + state.cell.partition) * 1e-5}
        reports = {} if prospect is None else {10: prospect}
        state.trials[len(state.trials)] = TrialRecord(config, reports=reports)


def test_each_smaller_partition_in_turn_the_nearest_first() -> None:
    cells = cells_of(1, 10, 100)
    judged(cells[ONE], 0.1, 0.9, 0.2, 0.3)
    judged(cells[TEN], 0.1, 0.2, 0.9, 0.3)
    state = cells[ALL]
    for partition, source in [(10, 2), (1, 1), (10, 3), (1, 3), (10, 1)]:
        config = cells[Cell(partition, "zeros")].trials[source].config
        assert transferred(state, cells) == (partition, config)
        state.trials[len(state.trials)] = TrialRecord(config)


def test_what_diverged_and_what_other_methods_found_is_not_handed_up() -> None:
    cells = cells_of(1, 100)
    judged(cells[ONE], 0.1, 0.9, 0.2, 0.3)
    cells[ONE].trials[1].ended = "diverged"
    assert transferred(cells[ALL], cells) == (1, cells[ONE].trials[3].config)
    others = {ALL: cells[ALL], Cell(1, "another"): cells[ONE]}
    assert transferred(cells[ALL], others) is None
    assert transferred(cells[ONE], cells) is None


def test_a_higher_rung_counts_more_than_a_higher_score(tmp_path: Path) -> None:
    cell = search(tmp_path)
    for score in (0.4, 0.1, 0.2):
        start(cell, ONE, score)
    trials = cell.cells[ONE].trials
    trials[1].reports[30] = 0.2
    start(cell, TEN)
    assert cell.cells[TEN].trials[1].config == trials[1].config


@pytest.mark.parametrize("scorer", [smooth, rough])
@pytest.mark.parametrize("slots", [1, 5])
@pytest.mark.parametrize("transfer", [0, 1, 3])
def test_transfers_are_bounded_early_new_and_journaled(
    tmp_path: Path, transfer: int, slots: int, scorer: Any
) -> None:
    spec = experiment(methods=METHODS, partitions=(1, 10, 100), trials=8, transfer=transfer)
    simulation = Simulation(spec, tmp_path / "events.jsonl", scorer, slots).run()
    simulation.check_finished()
    for cell, state in simulation.search.cells.items():
        moved = [n for n, t in state.trials.items() if t.origin.startswith("partition")]
        assert len(moved) <= transfer
        assert all(0 < number <= 4 for number in moved)
        assert not (cell == ONE and moved)
        rates = [trial.config["lr"] for trial in state.trials.values()]
        assert len(set(rates)) == len(rates)
        for number in moved:  # the last rung alone judges what was transferred
            assert number not in rungs_of(state.scheduler).get(10, {})
            trial = state.trials[number]
            assert max(trial.reports, default=0) >= 30 or trial.ended in ("diverged", "failed")
    if transfer:
        assert "partition" in " ".join(origins(simulation.search, ALL))
    journaled = {
        (str(event.cell), event.trial): event.origin
        for event in read_journal(tmp_path / "events.jsonl")
        if isinstance(event, TrialStarted)
    }
    assert journaled == {
        (str(g), n): t.origin
        for g, s in simulation.search.cells.items()
        for n, t in s.trials.items()
    }


@pytest.mark.parametrize("known", [2, 3])
def test_nothing_is_taken_from_a_partition_that_knows_too_little(known: int) -> None:
    cells = cells_of(1, 10)
    judged(cells[ONE], *[0.5] * known, *[None] * (4 - known))
    best = (1, cells[ONE].trials[0].config)
    assert transferred(cells[TEN], cells) == (best if known >= 3 else None)


@pytest.mark.parametrize("transfer", [0, 2])
@pytest.mark.parametrize("slots", [1, 4])
def test_every_cell_has_its_first_trial_before_any_but_a_probe_has_its_second(
    tmp_path: Path, transfer: int, slots: int
) -> None:
    partitions = (1, *range(10, 101, 10))
    spec = experiment(partitions=partitions, trials=8, transfer=transfer)
    simulation = Simulation(spec, tmp_path / "events.jsonl", slots=slots).run()
    order = [p for p in simulation.proposals if p.cell.method != "frozen"]
    cells = {p.cell for p in order}
    assert len(cells) == 11 * (len(spec.methods) - 1)
    first = [(p.cell, p.number) for p in order if p.number == 0 and p.probe is not None]
    seconds = [k for k, p in enumerate(order) if p.number == 1]
    begun = {p.cell for p in order[: min(seconds)]}
    assert len(begun) == len(cells)
    assert len(first) >= 11  # cells that had to wait for their probe


def test_smaller_partitions_are_ahead_by_no_more_than_the_lead(tmp_path: Path) -> None:
    spec = experiment(methods=METHODS, partitions=(1, 10, 100), trials=8, transfer=2)
    simulation = Simulation(spec, tmp_path / "events.jsonl")
    simulation.fill()
    cells = simulation.search.cells
    while simulation.flying:
        simulation.step()
        simulation.fill()
        served = [cells[g].proposed / 8 for g in (ONE, TEN, ALL)]
        if len(simulation.proposals) >= 3:
            assert min(served) > 0
        assert max(a - b for a, b in itertools.pairwise(served)) <= LEAD / 2 + 1 / 8
