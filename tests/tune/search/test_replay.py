"""A run killed anywhere goes on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import Cell, TrialEnded, read_journal
from search_spaces import Experiment
from tests.tune.search.simulated import (
    FIXED,
    FROZEN,
    LLRD,
    ZEROS,
    Simulation,
    a_report,
    experiment,
    probe_dies,
    rough,
    smooth,
)

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def killed(path: Path, whole: Path, lines: int, torn: int = 0) -> Path:
    """The journal of a run killed after `lines` lines, and `torn` bytes of the next."""
    content = whole.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:lines]) + b"".join(content[lines : lines + 1])[:torn])
    return path


def resumed(spec: Experiment, path: Path, *arguments: Any) -> Simulation:
    """A new process on what an earlier one left."""
    simulation = Simulation(spec, path, *arguments)
    ended = {
        (event.cell, event.trial)
        for event in read_journal(path)
        if isinstance(event, TrialEnded) and event.status != "cut"
    }
    simulation.run()
    simulation.check_finished()
    assert not ended & {(p.cell, p.number) for p in simulation.proposals}
    return simulation


@pytest.mark.parametrize(
    ("scorer", "options"),
    [
        (smooth, {}),
        (rough, {"seed": 1}),
        (probe_dies, {"trials": 3}),
        (rough, {"sampler": "tpe", "partitions": (1,), "trials": 9}),
        (smooth, {"scheduler": "hyperband", "partitions": (1,), "trials": 9}),
        (rough, {"scheduler": "none", "seed": 2}),
        (smooth, {"transfer": 2, "trials": 8, "methods": {"zeros": ZEROS}}),
        (rough, {"transfer": 2, "trials": 7, "methods": {"zeros": ZEROS}, "sampler": "tpe"}),
    ],
    ids=["random", "rough", "no probe", "tpe", "hyperband", "none", "transfer", "transfer, tpe"],
)
def test_with_one_slot_a_kill_leaves_no_trace(
    tmp_path: Path, scorer: Any, options: dict[str, Any]
) -> None:
    spec, whole = experiment(**options), tmp_path / "whole.jsonl"
    uninterrupted = Simulation(spec, whole, scorer).run()
    uninterrupted.check_finished()
    count = len(read_journal(whole))
    assert count > 40
    for lines in range(count + 1):
        path = killed(tmp_path / f"{lines}.jsonl", whole, lines, torn=lines % 5)
        assert resumed(spec, path, scorer).outcome == uninterrupted.outcome, lines


@settings(max_examples=40, deadline=None)
@given(
    scheduler=st.sampled_from(["asha", "hyperband", "none"]),
    transfer=st.integers(0, 2),
    slots=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    seeds=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    closed=st.booleans(),
)
def test_killed_twice_every_cell_is_completed(
    tmp_path_factory: pytest.TempPathFactory,
    scheduler: str,
    transfer: int,
    slots: tuple[int, int, int],
    seeds: tuple[int, int, int],
    cuts: tuple[float, float],
    closed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    spec = experiment(scheduler=scheduler, transfer=transfer)
    path = folder / "0.jsonl"
    Simulation(spec, path, rough, slots[0], seeds[0]).run()
    for i, cut in enumerate(cuts, start=1):
        lines = round(cut * len(read_journal(path)))
        path = killed(folder / f"{i}.jsonl", path, lines, torn=7)
        simulation = Simulation(spec, path, rough, slots[i], seeds[i])
        if closed:
            simulation.run(3)
            simulation.search.close("time is up")
        simulation.run()
        simulation.check_against_journal()
    resumed(spec, path, rough, slots[0], seeds[0])


@pytest.mark.parametrize("prospects", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"partitions": (1,), "trials": 12},
        {"partitions": (1, 10), "trials": 9, "transfer": 2},
        {"partitions": (1,), "trials": 17, "scheduler": "hyperband"},
    ],
    ids=["asha", "transfer", "hyperband"],
)
def test_who_was_running_or_free_when_a_run_was_killed_is_proposed_again(
    tmp_path: Path, options: dict[str, Any], prospects: bool
) -> None:
    """With several slots a rung has changed since the first of those that run were let on."""
    spec, path = experiment(methods={"zeros": ZEROS}, **options), tmp_path / "events.jsonl"
    whole = Simulation(spec, path, smooth, slots=4, prospects=prospects)
    whole.fill()
    while whole.flying:
        flying = {(f.proposal.cell, f.proposal.number) for f in whole.flying}
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(path.read_bytes())
        again = Simulation(spec, cut, smooth, slots=len(flying), prospects=prospects)
        again.fill()
        assert {(p.cell, p.number) for p in again.proposals} == flying
        again.search.close("time is up")
        again.run()
        late = Simulation(spec, cut, smooth, prospects=prospects).search
        for cell, number in flying:
            if whole.search.cells[cell].trials[number].origin != "sampler":
                over = again.search.cells[cell].trials[number].ended == "completed"
                assert over or number in late.cells[cell].orphans
        whole.step()
        whole.fill()


def test_what_was_in_flight_is_proposed_again_as_it_was(tmp_path: Path) -> None:
    spec, path = experiment(), tmp_path / "events.jsonl"
    before = Simulation(spec, path, smooth, slots=4).run(24)
    flying = {(f.proposal.cell, f.proposal.number): f.proposal for f in before.flying}
    reports = {k: before.search.cells[k[0]].trials[k[1]].reports for k in flying}
    assert len(flying) == 4
    assert any(reports.values())
    after = Simulation(spec, path, smooth, slots=4)
    for (cell, number), known in reports.items():
        assert after.search.cells[cell].trials[number].reports == known
    after.run()
    again = after.proposals[:4]
    assert {(p.cell, p.number) for p in again} == set(flying)
    for proposal in again:
        original = flying[proposal.cell, proposal.number]
        assert json.dumps([proposal.config, proposal.probe]) == json.dumps(
            [original.config, original.probe]
        )


def test_replaying_writes_nothing_to_a_whole_journal(tmp_path: Path) -> None:
    spec, path = experiment(), tmp_path / "events.jsonl"
    Simulation(spec, path, rough, slots=3).run()
    before = path.read_bytes()
    again = Simulation(spec, path, rough)
    assert again.search.finished
    assert again.search.propose() is None
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("scores", "status"),
    [
        ([0.5, 0.5, 0.5], "completed"),
        ([0.3], "running"),  # promoted
        ([0.22], "paused"),
        ([0.1], "stopped"),
        ([0.5, float("nan")], "diverged"),
    ],
)
def test_a_verdict_that_was_not_written_is_given_again(
    tmp_path: Path, scores: list[float], status: str
) -> None:
    """Killed between a trial's last report and its end: the report alone decides."""
    spec = experiment(methods={"zeros": ZEROS}, partitions=(1,), evaluations=1, trials=7)
    path, cell = tmp_path / "events.jsonl", Cell(1, "zeros")
    search = Simulation(spec, path).search
    for _ in range(4):
        search.propose()
    search.report(cell, 0, a_report(10, 0.4))
    for trial, score in ((1, 0.2), (2, 0.25)):
        search.report(cell, trial, a_report(10, score))
    number, other = (0, 3) if status == "completed" else (3, 0)
    for milestone, score in zip((10, 30, 90), scores, strict=False):
        search.report(cell, number, a_report(milestone, score))
    assert search.cells[cell].status(number) == status
    *_, last = events = read_journal(path)
    path = killed(tmp_path / "killed.jsonl", path, len(events) - 1)
    again = Simulation(spec, path)
    # A trial that runs is to be proposed again.
    assert again.search.cells[cell].status(number) == ("left" if status == "running" else status)
    written = read_journal(path)[-1]
    assert isinstance(last, TrialEnded)
    assert isinstance(written, TrialEnded)
    assert replace(written, reason="") == replace(last, reason="")
    assert again.search.propose().number == other  # type: ignore[union-attr]


# Extending a finished run

METHODS = {"frozen": FROZEN, "llrd": LLRD, "fixed": FIXED}
EXTENSIONS: dict[str, dict[str, Any]] = {
    "more trials": {"trials": 7},
    "more partitions": {"partitions": (1, 10, 100)},
    "one more method": {"methods": {**METHODS, "zeros": ZEROS}},
    "more trials of the probe": {"methods": {**METHODS, "frozen": {**FROZEN, "trials": 5}}},
    "everything": {
        "trials": 6, "partitions": (1, 20, 50, 100), "methods": {**METHODS, "deep": LLRD}
    },
}  # fmt: skip


@pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS)
@pytest.mark.parametrize("slots", [1, 4])
def test_a_finished_run_is_extended(tmp_path: Path, extension: dict[str, Any], slots: int) -> None:
    path = tmp_path / "events.jsonl"
    before = Simulation(experiment(), path, rough, slots).run().outcome
    larger = experiment(**extension)
    after = resumed(larger, path, rough, slots)
    budget = sum(larger.trials(m) for m in larger.methods) * len(larger.data.partitions)
    assert len({(p.cell, p.number) for p in after.proposals}) == budget - 16
    for cell, state in before.items():
        extended = after.outcome[cell]["trials"]
        assert state["trials"] == {n: extended[n] for n in state["trials"]}


def test_more_trials_at_once_or_later_are_the_same_with_one_slot(tmp_path: Path) -> None:
    """Of a single cell without rungs, whose trials see nothing but each other."""
    options: dict[str, Any] = {"methods": {"zeros": ZEROS}, "partitions": (1,), "sampler": "tpe"}
    options["scheduler"] = "none"  # a rung's places go by how many trials are to come
    at_once = Simulation(experiment(trials=9, **options), tmp_path / "once", rough).run()
    Simulation(experiment(trials=4, **options), tmp_path / "later", rough).run()
    later = resumed(experiment(trials=9, **options), tmp_path / "later", rough)
    assert later.outcome == at_once.outcome


@pytest.mark.parametrize(
    "smaller",
    [
        {"trials": 2},
        {"partitions": (100,)},
        {"methods": {"frozen": FROZEN, "fixed": FIXED}},
    ],
)
def test_a_smaller_experiment_keeps_what_was_done(tmp_path: Path, smaller: dict[str, Any]) -> None:
    path = tmp_path / "events.jsonl"
    before = Simulation(experiment(), path).run().outcome
    after = Simulation(experiment(**smaller), path)
    assert after.search.finished
    assert after.search.propose() is None
    assert after.outcome == {cell: before[cell] for cell in after.outcome}
    assert after.outcome


def test_an_unfinished_run_is_finished_where_its_budget_shrank(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Simulation(experiment(), path, slots=5).run(20)
    after = Simulation(experiment(trials=1), path)
    after.run()
    assert after.search.finished
    after.check_against_journal()
