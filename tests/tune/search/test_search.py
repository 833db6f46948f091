from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import (
    Cell,
    SearchClosed,
    TrialEnded,
    TrialPaused,
    TrialReported,
    TrialStarted,
    read_journal,
)
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
from tune.search.search import Search

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
CELLS = [Cell(p, m) for p in (1, 100) for m in ("frozen", "llrd", "fixed")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def only(path: Path, space: Mapping[str, Any] = ZEROS, **options: Any) -> Search:
    """A search of one cell, 1/zeros, without rungs unless asked for."""
    options = {"scheduler": "none", "trials": 3, **options}
    spec = experiment(methods={"zeros": space}, partitions=(1,), **options)
    return Simulation(spec, path).search


ONE = Cell(1, "zeros")


# Whose turn it is


@pytest.mark.parametrize("slots", [1, 2, 5, 50])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("scorer", [smooth, rough])
def test_every_cell_gets_its_budget(path: Path, slots: int, seed: int, scorer: Any) -> None:
    simulation = Simulation(experiment(), path, scorer, slots, seed).run()
    simulation.check_finished()
    counts = Counter(cell for cell, _ in {(p.cell, p.number) for p in simulation.proposals})
    assert counts == {g: {"frozen": 3, "llrd": 4, "fixed": 1}[g.method] for g in CELLS}
    assert simulation.search.propose() is None


def test_the_default_comes_first_in_every_cell(path: Path) -> None:
    spec = experiment()
    simulation = Simulation(spec, path, slots=3).run()
    for proposal in simulation.proposals:
        if proposal.number == 0:
            assert proposal.config == spec.methods[proposal.cell.method].parsed.first()


@pytest.mark.parametrize("slots", [1, 3])
def test_first_trials_of_cells_that_are_ready_come_first(path: Path, slots: int) -> None:
    simulation = Simulation(experiment(), path, slots=slots)
    search = simulation.search
    while not search.finished:
        ready = [s for s in search.cells.values() if s.proposed == 0 and _ready(search, s.cell)]
        before = len(simulation.proposals)
        free = len(simulation.flying) < slots
        simulation.fill()
        new = simulation.proposals[before:]
        if ready and free:
            assert new[0].number == 0 or new[0].cell.method == "frozen"
        simulation.step()


def _ready(search: Search, cell: Cell) -> bool:
    return cell.method == "frozen" or search.cells[Cell(cell.partition, "frozen")].finished


def test_then_the_cell_with_the_smallest_share_served(path: Path) -> None:
    methods = {"zeros": {**ZEROS, "trials": 6}, "other": {**ZEROS, "trials": 3}}
    spec = experiment(methods=methods, partitions=(1,), scheduler="none")
    simulation = Simulation(spec, path).run()
    order = [p.cell.method for p in simulation.proposals]
    assert order == ["zeros", "other", "zeros"] * 3


@pytest.mark.parametrize("slots", [1, 4, 50])
def test_cells_wait_for_their_probe(path: Path, slots: int) -> None:
    simulation = Simulation(experiment(), path, slots=slots, seed=3)
    search, checked = simulation.search, 0
    while not search.finished:
        simulation.fill()
        for proposal in simulation.proposals[checked:]:
            assert _ready(search, proposal.cell)
            checked += 1
        simulation.step()
    assert checked == len(simulation.proposals) >= 16


def test_nothing_to_propose_is_not_yet_finished(path: Path) -> None:
    search = Simulation(experiment(), path).search
    probes = [search.propose() for _ in range(6)]
    assert {p.cell.method for p in probes if p} == {"frozen"}
    assert search.propose() is None
    assert not search.finished
    for proposal in probes[:3]:
        assert proposal
        search.end(proposal.cell, proposal.number, "failed")
    assert (search.propose() is not None) == search.cells[Cell(1, "frozen")].finished


def test_methods_that_start_from_zeros_wait_for_nobody(path: Path) -> None:
    spec = experiment(methods={"frozen": FROZEN, "llrd": LLRD, "zeros": ZEROS})
    search = Simulation(spec, path).search
    first = [search.propose() for _ in range(8)]
    assert {p.cell.method for p in first[:6] if p} == {"frozen"}  # none of which has ended
    assert [str(p.cell) for p in first[6:] if p] == ["1/zeros", "100/zeros"]
    assert all(p and p.probe is None for p in first)


def test_the_unproposed_count_down_to_nothing(path: Path) -> None:
    simulation = Simulation(experiment(), path)
    cells = simulation.search.cells.values()
    left = [sum(cell.unproposed for cell in cells)]
    while not simulation.search.finished:
        simulation.run(1)
        left.append(sum(cell.unproposed for cell in cells))
    assert left[0] == 16
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


def test_a_plan_of_fewer_configurations_than_trials_is_shortened(path: Path) -> None:
    space = {"space": {"blocks": {"choice": ["11", "all"]}, "head_start": "zeros"}}
    search = only(path, space, trials=10)
    assert search.cells[ONE].budget == 2


# The probe's head


def test_trials_start_from_the_winner_of_their_partitions_probe(path: Path) -> None:
    simulation = Simulation(experiment(), path, slots=3).run()
    winners = simulation.search.winners()
    for proposal in simulation.proposals:
        if proposal.cell.method == "frozen":
            assert proposal.probe is None
        else:
            assert proposal.probe == winners[Cell(proposal.cell.partition, "frozen")].config


def test_a_probe_names_a_single_head(path: Path) -> None:
    simulation = Simulation(experiment(), path).run()
    for cell, winner in simulation.search.winners().items():
        if cell.method == "frozen":
            assert winner.config["head_lr"] == 1e-2  # out of the bank
            assert winner.config["weight_decay"] == 0.0


def test_without_a_probe_heads_start_from_zeros(path: Path) -> None:
    explicit = {"space": {**FIXED["space"], "head_start": "probe"}}
    spec = experiment(methods={"frozen": FROZEN, "llrd": LLRD, "fixed": explicit})
    simulation = Simulation(spec, path, probe_dies).run()
    simulation.check_finished()
    assert Cell(1, "frozen") not in simulation.search.winners()
    for proposal in simulation.proposals:
        if proposal.cell.method != "frozen" and proposal.cell.partition == 1:
            assert proposal.probe is None
            assert proposal.config["head_start"] == "zeros"
        elif proposal.cell.method != "frozen":
            assert proposal.probe is not None
            assert proposal.config.get("head_start", "probe") == "probe"
    started = [e for e in read_journal(path) if isinstance(e, TrialStarted)]
    assert [e.config for e in started] == [
        {k: list(v) if isinstance(v, tuple) else v for k, v in p.config.items()}
        for p in simulation.proposals
    ]


# Who wins


def run_scores(search: Search, *trials: list[float]) -> None:
    """Report each trial's scores at its milestones, 30, 60, 90; NaN diverges, -1 dies."""
    for scores in trials:
        proposal = search.propose()
        assert proposal
        for milestone, score in zip((30, 60, 90), scores, strict=False):
            if score == -1:
                search.end(proposal.cell, proposal.number, "failed")
                break
            search.report(proposal.cell, proposal.number, a_report(milestone, score))


nan = float("nan")


@pytest.mark.parametrize(
    ("trials", "number", "samples"),
    [
        ([[0.1, 0.2, 0.3], [0.1, 0.2, 0.4], [0.0, 0.1, 0.2]], 1, 90),
        ([[0.1, 0.5, 0.3], [0.1, 0.2, 0.4], [0.0, 0.1, 0.2]], 0, 60),  # its best report counts
        ([[0.1, 0.2, 0.5], [0.5, 0.2, 0.4], [0.0, 0.5, 0.2]], 0, 90),  # ties: the earlier trial
        ([[0.1, 0.2, 0.2], [0.1, 0.5, 0.5], [0.0, 0.1, 0.2]], 1, 60),  # and the earlier report
        ([[nan], [0.0, 0.0, 0.0], [nan]], 1, 30),
        ([[0.9, nan], [0.1, 0.2, 0.3], [0.8, 0.9, nan]], 1, 90),  # diverged never wins
        ([[-1], [0.1, 0.2, 0.3], [-1]], 1, 90),
        ([[-0.5, -0.2, -0.3], [-0.6, -1], [nan]], 0, 60),
    ],
)
def test_the_winner_has_the_best_score(
    path: Path, trials: list[list[float]], number: int, samples: int
) -> None:
    search = only(path)
    run_scores(search, *trials)
    assert search.finished
    winner = search.winners()[ONE]
    assert (winner.trial, winner.samples) == (number, samples)
    best = max(score for score in trials[number])
    assert winner.val_accuracy == max(0.0, best)  # the simulation's
    assert winner.config == search.cells[ONE].trials[number].config


def test_scores_rank_and_accuracies_are_reported(path: Path) -> None:
    search = only(path, trials=2)
    for score, accuracy in ((0.8, 0.5), (0.7, 0.9)):
        proposal = search.propose()
        assert proposal
        search.report(ONE, proposal.number, a_report(90, score, val_accuracy=accuracy))
    assert search.winners()[ONE].val_accuracy == 0.5


@pytest.mark.parametrize("trials", [[[nan], [-1], [nan]], [[0.5, nan], [0.5, 0.5, nan], [nan]]])
def test_a_cell_of_ruins_has_no_winner(path: Path, trials: list[list[float]]) -> None:
    search = only(path)
    run_scores(search, *trials)
    assert search.finished
    assert search.winners() == {}


@settings(max_examples=30, deadline=None)
@given(scores=st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3, nan]), min_size=3, max_size=3),
                       min_size=3, max_size=3))  # fmt: skip
def test_no_other_trial_scores_above_the_winner(
    tmp_path_factory: pytest.TempPathFactory, scores: list[list[float]]
) -> None:
    search = only(tmp_path_factory.mktemp("search") / "events.jsonl")
    run_scores(search, *scores)
    sound = {i: max(s) for i, s in enumerate(scores) if not any(x != x for x in s)}
    expected = min((n for n, s in sound.items() if s == max(sound.values())), default=None)
    winner = search.winners().get(ONE)
    assert (winner.trial if winner else None) == expected


# How trials end


def statuses(search: Search) -> list[str]:
    return [search.cells[ONE].status(number) for number in search.cells[ONE].trials]


def test_trials_end_as_their_reports_say(path: Path) -> None:
    search = only(path, scheduler="asha", trials=6)
    for _ in range(4):
        search.propose()
    assert search.report(ONE, 0, a_report(10, 0.5))
    assert search.report(ONE, 0, a_report(30, 0.5))
    assert not search.report(ONE, 0, a_report(90, 0.5))
    assert not search.report(ONE, 1, a_report(10, 0.4))
    assert not search.report(ONE, 2, a_report(10, nan))
    search.end(ONE, 3, "failed", "its process died")
    assert statuses(search) == ["completed", "paused", "diverged", "failed"]
    assert not search.finished
    search.propose()
    assert not search.report(ONE, 4, a_report(10, 0.3))  # there is no better to come
    assert statuses(search) == ["completed", "paused", "diverged", "failed", "stopped"]
    journaled = [
        (event.trial, "paused" if isinstance(event, TrialPaused) else event.status)
        for event in read_journal(path)
        if isinstance(event, TrialEnded | TrialPaused)
    ]
    ends = [(0, "completed"), (1, "paused"), (2, "diverged"), (3, "failed"), (4, "stopped")]
    assert journaled == ends


def test_an_ended_trial_stays_as_it_is(path: Path) -> None:
    search = only(path)
    run_scores(search, [0.1, 0.2, 0.3])
    before = path.read_bytes()
    assert not search.report(ONE, 0, a_report(90, 0.9))
    search.end(ONE, 0, "failed")
    assert statuses(search) == ["completed"]
    assert search.winners()[ONE].val_accuracy == 0.3
    assert path.read_bytes() == before


def test_a_trial_that_reports_again_changes_nothing(path: Path) -> None:
    search = only(path, scheduler="asha")
    search.propose()
    assert search.report(ONE, 0, a_report(10, 0.5))
    before = path.read_bytes()
    assert search.report(ONE, 0, a_report(10, 0.9))
    assert path.read_bytes() == before
    assert search.cells[ONE].trials[0].reports == {10: 0.5}


def test_decisions_are_on_disk_before_they_take_effect(path: Path) -> None:
    search = only(path)
    search.propose()
    assert [type(event) for event in read_journal(path)] == [TrialStarted]
    search.report(ONE, 0, a_report(30, 0.5))
    assert [type(event) for event in read_journal(path)] == [TrialStarted, TrialReported]


@pytest.mark.parametrize("slots", [1, 4])
def test_closing_cuts_what_runs_and_proposes_nothing(path: Path, slots: int) -> None:
    simulation = Simulation(experiment(), path, slots=slots).run(9)
    search = simulation.search
    flying = [(f.proposal.cell, f.proposal.number) for f in simulation.flying]
    assert len(flying) == slots
    proposed = len(simulation.proposals)
    search.close("time is up")
    search.close("again")
    assert search.finished
    assert search.propose() is None
    simulation.run()
    assert len(simulation.proposals) == proposed
    ends = [search.cells[g].status(n) for g, n in flying]
    assert set(ends) <= {"cut", "stopped", "completed"}
    assert "cut" in ends
    simulation.check_against_journal()
    closed = [event for event in read_journal(path) if isinstance(event, SearchClosed)]
    assert [event.reason for event in closed] == ["time is up"]


def test_a_cut_trial_may_still_win(path: Path) -> None:
    search = only(path)
    search.propose()
    search.report(ONE, 0, a_report(30, 0.5))
    search.close("time is up")
    assert not search.report(ONE, 0, a_report(60, 0.6))
    assert statuses(search) == ["cut"]
    assert search.winners()[ONE].val_accuracy == 0.6


# Promises about the whole


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_with_one_slot_a_run_is_a_function_of_its_experiment(tmp_path: Path, sampler: str) -> None:
    def outcome(name: str, spec: Experiment) -> Any:
        return Simulation(spec, tmp_path / name, rough).run().outcome

    spec = experiment(sampler=sampler, trials=9)
    assert outcome("a", spec) == outcome("b", spec)
    other = experiment(sampler=sampler, trials=9, seed=1)
    assert outcome("c", other) != outcome("a2", spec)


def test_what_is_solved_is_tried_everywhere_before_anything_is_trained(tmp_path: Path) -> None:
    solved = {"space": {"blocks": "none", "solver": "lbfgs", "weight_decay": {"bank": [0.1, 1]}}}
    spec = experiment(methods={"trained": ZEROS, "solved": solved}, scheduler="none")
    search = Simulation(spec, tmp_path / "events.jsonl").search
    proposed = [search.propose() for _ in range(4)]
    assert [each.cell.method for each in proposed if each] == [*2 * ["solved"], *2 * ["trained"]]


def test_a_method_more_does_not_change_the_others(tmp_path: Path) -> None:
    few = Simulation(experiment(), tmp_path / "few").run().outcome
    methods = {"zeros": ZEROS, "frozen": FROZEN, "llrd": LLRD, "fixed": FIXED}
    many = Simulation(experiment(methods=methods), tmp_path / "many").run().outcome
    assert few == {cell: many[cell] for cell in few}


def test_asha_saves_training_and_keeps_the_best_of_smooth_curves(tmp_path: Path) -> None:
    """Where ranks never change, stopping early finds the same winner with fewer samples."""
    methods = {"zeros": ZEROS}
    spec = {"methods": methods, "partitions": (1,), "trials": 30}
    asha = Simulation(experiment(**spec), tmp_path / "asha", smooth).run().search
    full = Simulation(experiment(scheduler="none", **spec), tmp_path / "full", smooth).run().search
    assert asha.winners() == full.winners()
    spent = [sum(t.samples for t in s.cells[ONE].trials.values()) for s in (asha, full)]
    assert spent[0] < 0.6 * spent[1]
