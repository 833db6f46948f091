from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from records import Cell
from tests.tune.search.simulated import ZEROS, Simulation, a_report, experiment
from tune.monitor import metrics
from tune.monitor.metrics import (
    BEST,
    DEVICE_SECONDS,
    FINAL_FITS_LEFT,
    IMAGES_DONE,
    IMAGES_PER_SECOND,
    IMAGES_WANTED,
    SAMPLES_PER_SECOND,
    SECONDS_LEFT,
    TRIALS,
    Gauges,
    Rate,
    final_readings,
    sample_readings,
    search_readings,
)
from tune.search.search import Search
from tune.search.time_budget import TimeBudget

ONE, ALL = Cell(1, "zeros"), Cell(100, "zeros")


class Hands:
    """A clock's hands, to be moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class FakeGauge:
    """Remembers what it was set to."""

    def __init__(self, name: str, description: str, tags: tuple[str, ...]) -> None:
        self.name, self.tags = name, tags
        self.values: dict[tuple[str, ...], float] = {}
        self.sets = 0
        self.was_set = threading.Event()

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tuple(tags) == self.tags
        self.values[tuple(tags.values())] = value
        self.sets += 1
        self.was_set.set()


class FakeGauges:
    """Makes gauges and keeps them by name."""

    def __init__(self) -> None:
        self.made: dict[str, FakeGauge] = {}

    def __call__(self, *arguments: Any) -> FakeGauge:
        gauge = FakeGauge(*arguments)
        self.made[gauge.name] = gauge
        return gauge


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    """Two cells of four trials, 90 samples each."""
    spec = experiment(methods={"zeros": ZEROS}, scheduler="none")
    return Simulation(spec, tmp_path / "events.jsonl")


def clock_of(simulation: Simulation) -> TimeBudget:
    return TimeBudget(simulation.experiment, slots=1, budget=None, began=0.0)


def readings_of(simulation: Simulation) -> metrics.Readings:
    return search_readings(simulation.search, clock_of(simulation))


def train(search: Search, milestone: int, score: float, seconds: float) -> Cell:
    """Start the next trial and let it report once; returns its cell."""
    proposal = search.propose()
    assert proposal
    search.report(proposal.cell, proposal.number, a_report(milestone, score, seconds=seconds))
    return proposal.cell


def test_a_new_search_has_all_its_trials_left_and_no_best(simulation: Simulation) -> None:
    readings = readings_of(simulation)
    for partition in ("1", "100"):
        for state in metrics.STATES:
            expected = 4 if state == "left" else 0
            assert readings[TRIALS, (partition, "zeros", state)] == expected
        assert (BEST, (partition, "zeros")) not in readings
        assert readings[DEVICE_SECONDS, (partition, "zeros", "search")] == 0
        assert readings[FINAL_FITS_LEFT, (partition, "zeros")] == 3
    assert (SECONDS_LEFT, ()) not in readings  # nothing to go by


def test_a_groups_numbers_are_its_own(simulation: Simulation) -> None:
    first = train(simulation.search, 90, 0.7, seconds=8.0)
    second = train(simulation.search, 30, 0.4, seconds=3.0)
    assert {first, second} == {ONE, ALL}
    readings, clock = readings_of(simulation), clock_of(simulation)
    for cell, state, best, seconds in (
        (first, "completed", 0.7, 8.0),
        (second, "running", 0.4, 3.0),
    ):
        tags = metrics.labels(cell)
        assert readings[TRIALS, (*tags, state)] == 1
        assert readings[TRIALS, (*tags, "left")] == 3
        assert readings[BEST, tags] == best
        assert readings[DEVICE_SECONDS, (*tags, "search")] == seconds
    assert readings[SECONDS_LEFT, ()] == clock.left(simulation.search)


def test_states_add_up_to_the_trials_at_every_moment_of_a_search(tmp_path: Path) -> None:
    spec = experiment()
    simulation = Simulation(spec, tmp_path / "events.jsonl", slots=2)
    planned = sum(spec.trials(method) for method in spec.methods) * 2
    while not simulation.search.finished:
        simulation.run(1)
        states = metrics.states(simulation.search)
        assert set(states) == set(metrics.STATES)
        assert states.total() == planned
        started = {(proposal.cell, proposal.number) for proposal in simulation.proposals}
        assert states["left"] == planned - len(started)
        assert states["running"] <= 2
    assert metrics.states(simulation.search)["completed"] > 0
    assert sum(metrics.states(simulation.search)[state] for state in metrics.ENDED) == planned


def test_trials_of_a_killed_run_are_left_and_not_running(tmp_path: Path) -> None:
    spec = experiment(methods={"zeros": ZEROS}, scheduler="none")
    path = tmp_path / "events.jsonl"
    before = Simulation(spec, path).search
    train(before, 90, 0.5, seconds=8.0)
    before.propose()
    states = metrics.states(Simulation(spec, path).search)
    assert (states["running"], states["completed"], states["left"]) == (0, 1, 7)


def test_a_rate_is_taken_over_its_window() -> None:
    rate = Rate(window=10)
    assert rate.at(0, 500) == 0  # of the run that is resumed
    assert rate.at(5, 600) == 20
    assert rate.at(10, 600) == 10
    assert rate.at(15, 600) == 0  # what came by second 5 is out of the window
    assert rate.at(100, 600) == 0


def test_a_total_that_falls_begins_anew() -> None:
    rate = Rate(window=10)
    assert rate.at(0, 500) == 0
    assert rate.at(5, 20) == 0  # damaged features are computed again
    assert rate.at(10, 70) == 10


def test_a_rate_is_not_told_at_once() -> None:
    rate = Rate(after=3)
    assert [rate.at(0, 10), rate.at(2, 90), rate.at(4, 90)] == [0, 0, 20]


def test_samples_a_second_are_by_cell(simulation: Simulation) -> None:
    rates: dict[Cell, Rate] = {}
    sample_readings(simulation.search, rates, now=0)
    cell = train(simulation.search, 90, 0.7, seconds=8.0)
    readings = sample_readings(simulation.search, rates, now=30)
    (other,) = {ONE, ALL} - {cell}
    assert readings[SAMPLES_PER_SECOND, metrics.labels(cell)] == 3
    assert readings[SAMPLES_PER_SECOND, metrics.labels(other)] == 0


def test_the_feature_stage_and_the_final_fits() -> None:
    tags = ("train and val",)
    features = metrics.feature_readings("train and val", 30, 100, 12.5)
    assert features[IMAGES_DONE, tags] == 30
    assert features[IMAGES_WANTED, tags] == 100
    assert features[IMAGES_PER_SECOND, tags] == 12.5
    final = final_readings({ONE: 2, ALL: 0}, {ALL: 9.0}, 60.0)
    assert final[FINAL_FITS_LEFT, ("1", "zeros")] == 2
    assert final[FINAL_FITS_LEFT, ("100", "zeros")] == 0
    assert final[DEVICE_SECONDS, ("100", "zeros", "final")] == 9
    assert final[SECONDS_LEFT, ()] == 60


def test_gauges_are_named_for_the_search_and_tagged_with_the_run(simulation: Simulation) -> None:
    made = FakeGauges()
    gauges = Gauges("digits", made)
    gauges.update(lambda: readings_of(simulation))
    assert set(made.made) == {f"clip_search_{metric.name}" for metric in metrics.METRICS}
    assert made.made["clip_search_trials"].values["digits", "1", "zeros", "left"] == 4


def test_updates_come_two_seconds_apart_and_are_not_computed_between() -> None:
    hands, made = Hands(), FakeGauges()
    gauges = Gauges("digits", made, hands)
    computed = []

    def readings() -> metrics.Readings:
        computed.append(hands.seconds)
        return {(SECONDS_LEFT, ()): hands.seconds}

    for tenth in range(100):
        hands.seconds = tenth / 10
        gauges.update(readings)
    assert computed == [0, 2, 4, 6, 8]
    gauges.update(readings, last=True)
    assert made.made["clip_search_seconds_left"].values == {("digits",): 9.9}


def test_gauges_are_set_again_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REPEAT", 0.01)
    made = FakeGauges()
    with Gauges("digits", made) as gauges:
        gauges.update(lambda: {(SECONDS_LEFT, ()): 5.0, (IMAGES_DONE, ("test",)): 1.0})
        gauges.forget(IMAGES_DONE)
        left, done = made.made["clip_search_seconds_left"], made.made["clip_search_images_done"]
        sets = done.sets
        for _ in range(3):
            left.was_set.clear()
            assert left.was_set.wait(10)
        assert done.sets == sets
    after = left.sets
    assert left.was_set.is_set()
    assert left.sets == after  # nobody sets it once it is closed
