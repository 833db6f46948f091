from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from records import Cell
from search_spaces import Experiment
from tests.tune.search.simulated import ZEROS, Simulation, a_report, experiment
from tune.search.search import Search
from tune.search.time_budget import MARGIN, REPORT, STARTUP, TimeBudget

ONE, ALL = Cell(1, "zeros"), Cell(100, "zeros")
SEEDS = 3


class Time:
    """A clock's hands, to be moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def spec() -> Experiment:
    """Two cells of four trials, 90 samples each."""
    return experiment(methods={"zeros": ZEROS}, scheduler="none")


@pytest.fixture
def search(spec: Experiment, tmp_path: Path) -> Search:
    return Simulation(spec, tmp_path / "events.jsonl").search


def clock(
    spec: Experiment, budget: float | None = None, slots: int = 1, **options: Any
) -> TimeBudget:
    return TimeBudget(spec, slots, budget, began=1000.0, **options)


def train(search: Search, cell: Cell, milestone: int, seconds: float) -> None:
    """Start the cell's next trial and let it report once."""
    state = search.cells[cell]
    while state.proposed == len(state.trials):
        proposal = search.propose()
        assert proposal
        if proposal.cell == cell:
            search.report(cell, proposal.number, a_report(milestone, 0.5, seconds=seconds))
            return


def test_without_a_budget_time_never_runs_out(spec: Experiment, search: Search) -> None:
    hands = Time()
    endless = clock(spec, now=hands)
    hands.seconds = 1e12
    assert not endless.out_of_time(search)


@pytest.mark.parametrize(("spent", "over"), [(0, False), (84.9, False), (85.0, True), (1e9, True)])
def test_the_search_ends_in_time_for_what_follows(
    spec: Experiment, search: Search, spent: float, over: bool
) -> None:
    hands = Time()
    limited = clock(spec, budget=100.0, now=hands)  # nothing is known but the start-up
    hands.seconds += spent
    assert STARTUP == 15.0
    assert limited.out_of_time(search) == over


def test_a_final_fit_begins_if_it_ends_in_time(spec: Experiment, search: Search) -> None:
    hands = Time()
    train(search, ONE, 90, seconds=8.0)  # with its margin 10
    limited, endless = clock(spec, budget=100.0, now=hands), clock(spec, now=hands)
    hands.seconds += 100 - 10 - REPORT - 0.1
    assert limited.allows(search, ONE)
    hands.seconds += 0.2
    assert not limited.allows(search, ONE)
    assert endless.allows(search, ONE)


def test_final_fits_are_expected_to_take_as_long_as_their_winners(
    spec: Experiment, search: Search
) -> None:
    alone = clock(spec)
    assert alone.after_search(search) == STARTUP
    train(search, ONE, 90, seconds=8.0)
    fits = SEEDS * 2  # two cells
    assert alone.after_search(search) == STARTUP + MARGIN * fits * 8.0
    train(search, ALL, 90, seconds=4.0)
    both = STARTUP + MARGIN * SEEDS * (8.0 + 4.0)
    assert alone.after_search(search) == both
    train(search, ONE, 90, seconds=20.0)  # no better than the first: not the winner
    assert alone.after_search(search) == both


def test_a_part_of_a_fit_tells_of_the_whole(spec: Experiment, search: Search) -> None:
    train(search, ONE, 30, seconds=5.0)
    assert clock(spec).after_search(search) == pytest.approx(STARTUP + MARGIN * SEEDS * 2 * 15.0)


def test_slots_share_the_work_and_the_test_split_comes_on_top(
    spec: Experiment, search: Search
) -> None:
    train(search, ONE, 90, seconds=8.0)
    four = clock(spec, slots=4, test_seconds=30.0)
    assert four.after_search(search) == STARTUP + 30.0 + MARGIN * SEEDS * 2 * 8.0 / 4


def test_a_slow_trial_ends_the_search_earlier(spec: Experiment, search: Search) -> None:
    hands = Time()
    limited = clock(spec, budget=200.0, now=hands)
    hands.seconds += 100
    assert not limited.out_of_time(search)
    train(search, ONE, 90, seconds=12.0)
    assert limited.out_of_time(search)


def test_nothing_is_known_before_the_first_report(spec: Experiment, search: Search) -> None:
    assert clock(spec).left(search) is None
    search.propose()
    assert clock(spec).left(search) is None


def test_what_is_left_is_trials_and_then_fits(spec: Experiment, search: Search) -> None:
    watch = clock(spec, slots=2)
    train(search, ONE, 90, seconds=8.0)
    # Seven trials of eight are to come, at eight seconds each.
    assert watch.left(search) == pytest.approx(7 * 8.0 / 2 + watch.after_search(search))


def test_a_running_trial_is_half_done(spec: Experiment, search: Search) -> None:
    watch = clock(spec)
    train(search, ONE, 90, seconds=8.0)
    search.propose()
    assert watch.left(search) == pytest.approx(6.5 * 8.0 + watch.after_search(search))


def test_less_is_left_as_a_search_goes_on(tmp_path: Path) -> None:
    spec = experiment(scheduler="none")
    simulation = Simulation(spec, tmp_path / "events.jsonl")
    watch, left = clock(spec), []
    while not simulation.search.finished:
        simulation.run(1)
        # From then on each cell has a trial to go by.
        if all(s.trials and s.status(0) != "running"
               for s in simulation.search.cells.values()):  # fmt: skip
            left.append(watch.left(simulation.search))
    assert left == sorted(left, reverse=True)  # type: ignore[type-var]
    assert len(left) > 5
    assert left[-1] == watch.after_search(simulation.search)


def test_only_the_fits_are_left_of_a_closed_search(spec: Experiment, search: Search) -> None:
    train(search, ONE, 90, seconds=8.0)
    search.close("time is up")
    watch = clock(spec)
    assert watch.left(search) == watch.after_search(search)


def test_a_trial_to_be_taken_up_again_counts_once(spec: Experiment, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    before = Simulation(spec, path).search
    train(before, ONE, 90, seconds=8.0)
    before.propose()
    after, watch = Simulation(spec, path).search, clock(spec)
    assert watch.left(after) == pytest.approx(7 * 8.0 + watch.after_search(after))


def test_the_time_left_of_final_fits_goes_by_those_that_are_made(
    spec: Experiment, search: Search
) -> None:
    train(search, ONE, 90, seconds=8.0)
    train(search, ALL, 90, seconds=4.0)
    watch = clock(spec, slots=2)
    none = watch.fits_left(search, {ONE: 3, ALL: 3}, {}, {})
    assert none == pytest.approx(MARGIN * SEEDS * (8.0 + 4.0) / 2)
    # One of the larger ones is made, and took three times as long as was to be expected. It counts
    # beside one that takes what was expected, of both cells' mean.
    some = watch.fits_left(search, {ONE: 3, ALL: 2}, {ALL: 12.0}, {})
    pace = (12.0 + MARGIN * 6.0) / (4.0 + 6.0)
    assert some == pytest.approx(pace * (3 * 8.0 + 2 * 4.0) / 2)
    assert watch.fits_left(search, {ONE: 0, ALL: 0}, {ONE: 24.0, ALL: 12.0}, {}) == 0
    # Of the two that are left one failed: it is neither made nor waited for.
    failed = watch.fits_left(search, {ONE: 3, ALL: 2}, {ALL: 12.0}, {ALL: 1})
    assert failed == pytest.approx(pace * (3 * 8.0 + 1 * 4.0) / 2)


def test_the_time_left_is_not_known_before_every_method_has_reported(tmp_path: Path) -> None:
    spec = experiment(methods={"zeros": ZEROS, "more": ZEROS}, scheduler="none")
    search = Simulation(spec, tmp_path / "events.jsonl").search
    train(search, ONE, 90, seconds=8.0)
    known = {cell.method for cell, state in search.cells.items() if state.trials}
    assert known == {"zeros"}
    assert clock(spec).left(search) is None


def test_fast_methods_say_nothing_of_slow_ones(tmp_path: Path) -> None:
    spec = experiment(methods={"zeros": ZEROS, "more": ZEROS}, scheduler="none")
    simulation = Simulation(spec, tmp_path / "events.jsonl").run()
    watch, cells = clock(spec), list(simulation.search.cells)
    none = watch.fits_left(simulation.search, dict.fromkeys(cells, SEEDS), {}, {})
    left = {cell: SEEDS if cell.method == "zeros" else 0 for cell in cells}
    spent = {cell: 0.001 for cell in cells if cell.method == "more"}
    assert watch.fits_left(simulation.search, left, spent, {}) == pytest.approx(none / 2)
