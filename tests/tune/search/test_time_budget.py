from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from records import Cell
from search_spaces import Experiment
from tests.tune.search.simulated import ZEROS, Simulation, a_report, experiment
from tune.search.search import Search
from tune.search.time_budget import AFTER, MARGIN, REPORT, STARTUP, TimeBudget

ONE, ALL = Cell(1, "zeros"), Cell(100, "zeros")
SEEDS = 3
FULL = 1 + AFTER
"""What a final fit takes, in trials to the horizon."""
ALL_SEEDS = SEEDS - 1 + SEEDS * AFTER
"""What those of a cell take whose winner came to the horizon: the first is trained already."""


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


@pytest.mark.parametrize(("spent", "over"), [(0, False), (89.9, False), (90.0, True), (1e9, True)])
def test_the_search_ends_in_time_for_what_follows(
    spec: Experiment, search: Search, spent: float, over: bool
) -> None:
    hands = Time()
    limited = clock(spec, budget=100.0, now=hands)  # nothing is known but the start-up
    hands.seconds += spent
    assert STARTUP == 10.0
    assert limited.out_of_time(search) == over


def test_a_final_fit_begins_if_it_ends_in_time(spec: Experiment, search: Search) -> None:
    hands = Time()
    train(search, ONE, 90, seconds=8.0)
    limited, endless = clock(spec, budget=100.0, now=hands), clock(spec, now=hands)
    hands.seconds += 100 - MARGIN * FULL * 8.0 - REPORT - 0.1
    assert limited.allows(search, ONE)
    hands.seconds += 0.2
    assert not limited.allows(search, ONE)
    assert endless.allows(search, ONE)


@pytest.mark.parametrize(
    ("more", "longer"),
    [({"validation": {1: 90, 100: 90}}, FULL * (90 + 3 * 30) / 99), ({"tested": 297}, FULL + 1)],
)
def test_a_final_fit_that_judges_more_images_begins_earlier(
    spec: Experiment, search: Search, more: dict[str, Any], longer: float
) -> None:
    hands = Time()
    train(search, ONE, 90, seconds=8.0)  # and 3 evaluations, of 9 images: 99 samples' work
    limited = clock(spec, 100.0, judges={1: 9, 100: 9}, now=hands, **more)
    hands.seconds += 100 - MARGIN * longer * 8.0 - REPORT - 0.1
    assert limited.allows(search, ONE)
    hands.seconds += 0.2
    assert not limited.allows(search, ONE)


def test_a_final_fit_begins_as_those_before_it_took(spec: Experiment, search: Search) -> None:
    hands = Time()
    train(search, ONE, 90, seconds=8.0)
    limited = clock(spec, 100.0, now=hands)
    assert limited.allows(search, ALL)
    for _ in range(8):
        limited.fit_ended(search, ONE, made=1, seconds=100.0)
    assert not limited.allows(search, ALL)


def test_every_final_fit_passes_the_test_images(spec: Experiment, search: Search) -> None:
    train(search, ONE, 90, seconds=8.0)
    few, many = (clock(spec, tested=n).after_search(search) for n in (0, 270))
    assert many == pytest.approx(few + 2 * SEEDS * 8.0)


def test_final_fits_are_expected_to_take_as_long_as_their_winners(
    spec: Experiment, search: Search
) -> None:
    alone = clock(spec)
    assert alone.after_search(search) == STARTUP
    train(search, ONE, 90, seconds=8.0)
    fits = ALL_SEEDS + SEEDS * FULL  # the other cell has no winner yet
    assert alone.after_search(search) == pytest.approx(STARTUP + fits * 8.0)
    train(search, ALL, 90, seconds=4.0)
    both = pytest.approx(STARTUP + ALL_SEEDS * (8.0 + 4.0))
    assert alone.after_search(search) == both
    train(search, ONE, 90, seconds=20.0)  # no better than the first: not the winner
    assert alone.after_search(search) == both


def test_a_part_of_a_fit_tells_of_the_whole(spec: Experiment, search: Search) -> None:
    train(search, ONE, 30, seconds=5.0)
    # The first final fit trains the other two thirds of the winner's trial.
    fits = 2 * SEEDS * FULL - 1 / 3
    assert clock(spec).after_search(search) == pytest.approx(STARTUP + fits * 15.0)


def test_slots_share_the_work_and_the_test_split_comes_on_top(
    spec: Experiment, search: Search
) -> None:
    train(search, ONE, 90, seconds=8.0)
    four = clock(spec, slots=4, test_seconds=30.0)
    fits = ALL_SEEDS + SEEDS * FULL
    assert four.after_search(search) == pytest.approx(STARTUP + 30.0 + fits * 8.0 / 4)
    more = clock(spec, slots=1000)  # but a fit takes its time
    assert more.after_search(search) == pytest.approx(STARTUP + FULL * 8.0)


def test_a_slow_trial_ends_the_search_earlier(spec: Experiment, search: Search) -> None:
    hands = Time()
    limited = clock(spec, budget=200.0, now=hands)
    hands.seconds += 100
    assert not limited.out_of_time(search)
    for cell in (ONE, ALL):
        train(search, cell, 90, seconds=16.0)
    assert limited.out_of_time(search)
    assert limited.lacks(search) == 0  # but for the margin, it was in time
    hands.seconds += 20
    assert limited.lacks(search) == pytest.approx(120 + limited.after_search(search) - 200)
    assert clock(spec, now=hands).lacks(search) == 0


def test_a_first_report_ends_no_search(spec: Experiment, search: Search) -> None:
    """It is slow where a process does for the first time what it does again and again."""
    hands = Time()
    limited = clock(spec, budget=500.0, now=hands)
    train(search, ONE, 30, seconds=40.0)
    hands.seconds += 40
    assert limited.after_search(search) > 500
    assert not limited.out_of_time(search)
    search.report(ONE, 0, a_report(60, 0.5, seconds=44.0))
    assert limited.after_search(search) < 500
    assert not limited.out_of_time(search)
    again = clock(spec, budget=60.0, now=hands)  # is too short by any measure
    assert again.out_of_time(search)


def test_a_trial_that_begins_anew_is_timed_anew(spec: Experiment, search: Search) -> None:
    train(search, ONE, 30, seconds=10.0)
    for samples, seconds in ((30, 2.0), (60, 4.0)):
        search.report(ONE, 0, a_report(samples, 0.5, seconds=seconds))
    fits = 2 * SEEDS * FULL - 2 / 3
    assert clock(spec).after_search(search) == pytest.approx(STARTUP + fits * 6.0)


def test_final_fits_are_judged_by_more_images(spec: Experiment, search: Search) -> None:
    train(search, ONE, 90, seconds=8.0)
    few, many = {1: 9, 100: 9}, {1: 90, 100: 90}
    same, more = clock(spec, judges=few), clock(spec, judges=few, validation=many)
    ratio = (90 + 3 * 30) / (90 + 3 * 3)
    after = same.after_search(search) - STARTUP
    assert more.after_search(search) == pytest.approx(STARTUP + ratio * after)


def test_a_table_without_holes_comes_before_more_seeds(spec: Experiment, search: Search) -> None:
    hands = Time()
    limited = clock(spec, budget=200.0, now=hands)
    train(search, ONE, 90, seconds=40.0)
    hands.seconds += 40
    assert limited.after_search(search) > 200
    assert not limited.out_of_time(search)  # the other cell has no trial yet
    train(search, ALL, 90, seconds=40.0)
    assert limited.out_of_time(search)


def test_final_fits_that_are_there_take_no_time(spec: Experiment, search: Search) -> None:
    train(search, ONE, 90, seconds=8.0)
    none = clock(spec).after_search(search)
    some, of_another = (clock(spec, made={(ONE, trial): 2}) for trial in (0, 1))
    assert some.after_search(search) == pytest.approx(none - 8.0 * (AFTER + FULL))
    assert of_another.after_search(search) == none


@pytest.mark.parametrize(("scheduler", "early", "whole"), [("none", 1, 3), ("asha", 4, 6)])
def test_evaluations_take_time_as_samples_do(
    tmp_path: Path, scheduler: str, early: int, whole: int
) -> None:
    """At 30, 60 and 90 samples, and at rungs: there the prospect is judged, before the horizon."""
    spec = experiment(methods={"zeros": ZEROS}, scheduler=scheduler)
    search = Simulation(spec, tmp_path / "events.jsonl").search
    assert [search.cells[ONE].evaluations(samples) for samples in (30, 90)] == [early, whole]
    judged = clock(spec, judges={1: 300, 100: 300})
    train(search, ONE, 30, seconds=23.0)
    taken = 23.0 * (90 + whole * 100) / (30 + early * 100)
    fits = 2 * SEEDS * FULL - 1 / 3
    assert judged.after_search(search) == pytest.approx(STARTUP + fits * taken)
    assert judged.left(search) is not None


def test_nothing_is_known_before_the_first_report(spec: Experiment, search: Search) -> None:
    assert clock(spec).left(search) is None
    search.propose()
    assert clock(spec).left(search) is None


def test_what_is_left_is_trials_and_then_fits(spec: Experiment, search: Search) -> None:
    watch = clock(spec, slots=2)
    train(search, ONE, 90, seconds=8.0)
    # Seven trials of eight are to come, at eight seconds each.
    assert watch.left(search) == pytest.approx(7 * 8.0 / 2 + watch.after_search(search))


def test_a_running_trial_is_half_way_to_its_next_report(spec: Experiment, search: Search) -> None:
    watch = clock(spec)
    train(search, ONE, 90, seconds=8.0)
    search.propose()
    to_go = 7 - 15 / 90  # it reports at 30 of 90 samples
    assert watch.left(search) == pytest.approx(to_go * 8.0 + watch.after_search(search))


@pytest.mark.parametrize("transfer", [0, 2])
@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband"])
def test_the_time_left_is_right_from_a_quarter_of_the_search_on(
    tmp_path: Path, scheduler: str, transfer: int
) -> None:
    """Each sample takes a tenth of a second: what a search took is known once it has ended."""
    more = {"trials": 27, "transfer": transfer}
    spec = experiment(scheduler=scheduler, partitions=(1, 10, 100), **more)
    simulation, watch = Simulation(spec, tmp_path / "events.jsonl"), clock(spec)
    seen = []
    while not simulation.search.finished:
        simulation.run(1)
        trials = [t for state in simulation.search.cells.values() for t in state.trials.values()]
        seen.append((sum(trial.seconds for trial in trials), watch.left(simulation.search)))
    took, end = seen[-1]
    assert end == watch.after_search(simulation.search)
    ratios = [left / (took + end - spent) for spent, left in seen if left and spent > took / 4]
    assert len(ratios) > 50
    assert 1 / 1.25 < min(ratios) <= max(ratios) < 1.25


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
    hands = Time()
    watch = clock(spec, slots=2, now=hands)
    watch.begin_fits()
    none = watch.fits_left(search, {ONE: 3, ALL: 3})
    assert none == pytest.approx(REPORT + ALL_SEEDS * (8.0 + 4.0) / 2)
    # The first fits train nothing: their pace is not that of the others.
    watch.fit_ended(search, ONE, made=0, seconds=8.0)
    watch.fit_ended(search, ALL, made=0, seconds=4.0)
    hands.seconds += 6.0
    others = watch.fits_left(search, {ONE: 2, ALL: 2})
    assert others == pytest.approx(REPORT + 2 * FULL * (8.0 + 4.0) / 2)
    # Another takes three times as long as was to be expected, and so do those that come.
    for _ in range(1000):
        watch.fit_ended(search, ALL, made=1, seconds=3 * FULL * 4.0)
    assert watch.fits_left(search, {ONE: 1, ALL: 1}) == pytest.approx(
        REPORT + 3 * FULL * (8.0 + 4.0) / 2, rel=0.15
    )
    assert watch.fits_left(search, {ONE: 0, ALL: 0}) == REPORT
    # Of the two that are left one failed: it is neither made nor waited for.
    failed = watch.fits_left(search, {ONE: 0, ALL: 2}, {ALL: 1})
    assert failed == watch.fits_left(search, {ONE: 0, ALL: 1})


def test_a_wave_of_final_fits_counts_down(spec: Experiment, search: Search) -> None:
    train(search, ONE, 90, seconds=100.0)
    hands = Time()
    watch = clock(spec, slots=8, now=hands)
    watch.begin_fits()
    left = []
    for _ in range(3):
        left.append(watch.fits_left(search, {ONE: 2}) - REPORT)
        hands.seconds += 40.0
    assert left == pytest.approx([FULL * 100.0, FULL * 100.0 - 40, FULL * 100.0 - 80])
    hands.seconds += 1e6
    assert watch.fits_left(search, {ONE: 2}) > REPORT


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
    left = {cell: SEEDS - 1 if cell.method == "zeros" else 0 for cell in cells}
    none = watch.fits_left(simulation.search, left)
    for cell in cells:
        if cell.method == "more":
            watch.fit_ended(simulation.search, cell, made=1, seconds=0.0)
    assert watch.fits_left(simulation.search, left) == pytest.approx(none)


def test_once_the_report_alone_is_in_time_the_budget_is_over(spec: Experiment) -> None:
    hands = Time()
    assert not clock(spec, now=hands).over()
    watch = clock(spec, 100.0, now=hands)
    hands.seconds = 1000.0 + 99.0 - REPORT
    assert not watch.over()
    hands.seconds += 1.0
    assert watch.over()
