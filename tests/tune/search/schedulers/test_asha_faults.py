"""The known faults of asynchronous halving, each on learning curves that are made up here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import Cell
from search_spaces.schedulers import HyperbandConfig
from tests.tune.search.simulated import Simulation, a_report, experiment, rungs_of
from tune.search.schedulers import rung_milestones
from tune.search.schedulers.hyperband import Hyperband

ONE = Cell(1, "curves")
SPACE = {"blocks": "11", "head_start": "zeros", "lr": {"loguniform": [1e-5, 1e-2]}}
nan = math.nan

Curve = Callable[[int], float]


def play(path: Path, curves: Sequence[Curve], images: int = 1, **search: Any) -> Simulation:
    """Search one cell whose trial number n has the curve n; rungs at 10, 30 and 90."""
    spec = experiment(methods={"curves": {"space": SPACE}}, partitions=(1,),
                      **{"trials": len(curves), **search})  # fmt: skip
    order: list[float] = []

    def scored(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
        if config["lr"] not in order:
            order.append(config["lr"])
        return curves[order.index(config["lr"])](milestone)

    simulation = Simulation(spec, path / "events.jsonl", scored, images={1: images})
    simulation.run()
    simulation.check_finished()
    return simulation


def seen(simulation: Simulation) -> dict[int, int]:
    """Trial to the samples it trained."""
    return {n: t.samples for n, t in simulation.search.cells[ONE].trials.items()}


def flat(score: float) -> Curve:
    return lambda milestone: score


def slow(milestone: int) -> float:
    """The worst of all up to the first rung, and the best of all at the end."""
    return {10: 0.1, 30: 0.7, 60: 0.8, 90: 0.9}[milestone]


COMMON: list[Curve] = [flat(0.5 + i / 1000) for i in range(11)]


# Slow starters


def test_a_slow_starter_is_lost_where_only_early_scores_count(tmp_path: Path) -> None:
    """The fault itself."""
    simulation = play(tmp_path, [*COMMON[:6], slow, *COMMON[6:]])
    assert simulation.search.winners()[ONE].trial != 6
    assert seen(simulation)[6] == 10


def test_a_rung_before_the_images_were_seen_twice_judges_nobody(tmp_path: Path) -> None:
    curves = [*COMMON[:6], slow, *COMMON[6:]]
    for images, found, whole in ((5, False, 1 + 2), (6, True, 1 + 4), (10**6, True, 1 + 4)):
        folder = tmp_path / str(images)
        folder.mkdir()
        simulation = play(folder, curves, images=images)
        assert (simulation.search.winners()[ONE].trial == 6) == found
        # The one before the horizon judges, however many images there are.
        assert sum(samples == 90 for samples in seen(simulation).values()) == whole


def test_hyperband_finds_a_slow_starter(tmp_path: Path) -> None:
    hyperband = Hyperband(HyperbandConfig(), (10, 30, 90), range(12))
    for number in (n for n in range(1, 12) if hyperband.bracket_of(n) > 0):
        folder = tmp_path / str(number)
        folder.mkdir()
        curves = [*COMMON[:number], slow, *COMMON[number:]]
        simulation = play(folder, curves, scheduler="hyperband")
        assert simulation.search.winners()[ONE].trial == number


def test_a_paused_trial_goes_on_when_its_rank_recovers(tmp_path: Path) -> None:
    """Not among the best third when it came, but once more records are in: the stopping rule
    would have ended it at once."""
    late: Curve = {10: 0.6, 30: 0.75, 60: 0.8, 90: 0.9}.__getitem__
    curves = [flat(0.3), flat(0.7), late, *(flat(0.1 + i / 100) for i in range(9))]
    simulation = play(tmp_path, curves)
    proposed = [proposal.number for proposal in simulation.proposals]
    assert proposed.count(2) > 1  # it was paused, and taken up again
    assert simulation.search.winners()[ONE].trial == 2


def test_trials_are_compared_by_prospect_and_the_winner_has_the_best_score(tmp_path: Path) -> None:
    """A prospect is of weights that nobody keeps."""
    spec = experiment(methods={"curves": {"space": SPACE}}, partitions=(1,), trials=7)
    search = Simulation(spec, tmp_path / "events.jsonl").search
    for _ in range(4):
        search.propose()
    scores, prospects = {1: 0.9, 2: 0.2, 3: 0.1}, {1: 0.1, 2: 0.2, 3: 0.6}
    goes_on = [search.report(ONE, n, a_report(10, scores[n], prospect=prospects[n]))
               for n in scores]  # fmt: skip
    assert goes_on == [False, False, True]
    state = search.cells[ONE]
    assert rungs_of(state.scheduler)[10] == prospects
    assert search.winners()[ONE].trial == 1
    again = Simulation(spec, tmp_path / "events.jsonl").search
    assert again.winners() == search.winners()
    assert rungs_of(again.cells[ONE].scheduler)[10] == prospects


# First and few records


def test_the_first_record_is_not_simply_promoted(tmp_path: Path) -> None:
    """Trials that come first have no advantage but the default's."""
    curves = [flat(0.2), flat(0.1), *(flat(0.3 + i / 100) for i in range(7))]
    simulation = play(tmp_path, curves)
    assert seen(simulation)[0] == 90  # the default
    assert seen(simulation)[1] == 10


def test_with_few_records_nobody_is_stopped_who_could_be_among_the_best(tmp_path: Path) -> None:
    """Rising scores: the best comes last, and is found."""
    simulation = play(tmp_path, [flat(i / 10) for i in range(9)])
    assert simulation.search.winners()[ONE].trial == 8
    assert seen(simulation)[8] == 90


@pytest.mark.parametrize("trials", range(1, 8))
def test_whatever_the_budget_one_reaches_the_horizon(tmp_path: Path, trials: int) -> None:
    simulation = play(tmp_path, [lambda milestone: nan, *(flat(i) for i in range(trials))])
    assert 90 in seen(simulation).values()


@pytest.mark.parametrize("default", [0.0, 0.9])
def test_the_default_takes_no_place_from_the_others(tmp_path: Path, default: float) -> None:
    curves = [flat(default), *(flat(0.1 + i / 10) for i in range(4))]
    samples = seen(play(tmp_path, curves))
    assert samples == {0: 90, 1: 10, 2: 10, 3: 30, 4: 90}  # of four a third, rounded up


# Ties and NaN


def test_ties_do_not_let_everybody_through(tmp_path: Path) -> None:
    samples = seen(play(tmp_path, [flat(0.5)] * 9))
    assert samples[0] == 90  # the default
    assert sorted(samples.values())[:-1] == [10] * 5 + [30] * 2 + [90]


def test_nan_is_stopped_and_pushes_nobody_out(tmp_path: Path) -> None:
    sound = [flat(0.5), flat(0.1), flat(0.2), flat(0.3)]
    curves = [*sound, *([lambda milestone: nan] * 20)]
    simulation = play(tmp_path, curves)
    cell = simulation.search.cells[ONE]
    assert [t.ended for t in list(cell.trials.values())[4:]] == ["diverged"] * 20
    assert set(rungs_of(cell.scheduler)[10]) == {1, 2, 3}
    assert seen(simulation)[3] >= 30  # among the best third of three, not of twenty-three
    assert seen(simulation)[2] == 10
    assert simulation.search.winners()[ONE].trial == 0


# For any scores

SCORES = st.lists(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, nan]), min_size=4, max_size=4),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(SCORES, st.integers(1, 4), st.integers(2, 4), st.integers(0, 9))
def test_for_any_scores(
    tmp_path_factory: pytest.TempPathFactory,
    scores: list[list[float]],
    slots: int,
    eta: int,
    seed: int,
) -> None:
    """No rung is reached by more than its share, its best goes on, and nothing is lost."""
    budget, path = len(scores), tmp_path_factory.mktemp("run") / "events.jsonl"
    spec = experiment(methods={"curves": {"space": SPACE}}, partitions=(1,), trials=budget,
                      asha={"rungs": 3, "reduction_factor": eta}, evaluations=1)  # fmt: skip
    points = rung_milestones(90, spec.search, 0)
    order: list[float] = []

    def scored(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
        if config["lr"] not in order:
            order.append(config["lr"])
        return scores[order.index(config["lr"])][points.index(milestone)]

    simulation = Simulation(spec, path, scored, slots, seed)
    simulation.run()
    simulation.check_finished()
    cell = simulation.search.cells[ONE]
    for k, point in enumerate(points):
        reached = sum(t.samples >= point for t in cell.trials.values())
        assert reached <= math.ceil(budget / eta**k) + (k > 0)  # one more: the default
    for milestone, scores in rungs_of(cell.scheduler).items():
        if scores and milestone < 90:
            best = min(scores, key=lambda number: (-scores[number], number))
            assert cell.trials[best].samples > milestone
