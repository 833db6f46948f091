from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from records import Cell
from search_spaces import Params, SearchConfig, Space, parse_space
from tests.tune.search.simulated import LLRD, a_report
from tune.search.sampler import completed, entropy, propose
from tune.search.trial_record import TrialRecord

CELL = Cell(10, "llrd")
SPACE = parse_space(LLRD["space"], LLRD["default"])  # type: ignore[arg-type]
ENDS = ("completed", "stopped", "completed", "failed", "diverged", "cut", None)
Trials = dict[int, TrialRecord]


def proposed(
    number: int,
    trials: Trials,
    sampler: Any = "tpe",
    space: Space = SPACE,
    budget: int = 16,
    cell: Cell = CELL,
    seed: int = 0,
) -> Params:
    search = SearchConfig(sampler=sampler)
    return propose(space, search, trials, budget, entropy(seed, cell, number))


def a_trial(config: Params, number: int, ended: str | None) -> TrialRecord:
    reports = {10: 0.1 * (number % 3), 30: 0.2 + 0.1 * (number % 4)}
    # Scores are not on the scale of prospects.
    return TrialRecord(config, reports=reports, best=a_report(30, 0.5 + number / 10), ended=ended)


def history(count: int, **options: Any) -> Trials:
    """Trials that complete, are stopped, fail, diverge, are cut and run in turn."""
    trials: Trials = {}
    for number in range(count):
        config = proposed(number, trials, **options)
        trials[number] = a_trial(config, number, ENDS[number % len(ENDS)])
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_proposal_follows_from_its_arguments(sampler: str) -> None:
    assert history(10, sampler=sampler) == history(10, sampler=sampler)


def test_a_proposal_changes_nothing() -> None:
    trials = history(9)
    before = copy.deepcopy(trials)
    assert proposed(9, trials) == proposed(9, trials)
    assert trials == before


def test_trials_are_seen_by_number_not_in_the_order_of_their_events() -> None:
    trials = history(12)
    assert proposed(12, dict(reversed(trials.items()))) == proposed(12, trials)


def test_tpe_has_a_model_after_five_trials() -> None:
    trials = history(9)
    assert proposed(9, {n: trials[n] for n in range(4)}) == proposed(9, {})
    assert proposed(9, trials) != proposed(9, {})


def test_the_random_sampler_needs_no_trials() -> None:
    assert proposed(9, history(9), sampler="random") == proposed(9, {}, sampler="random")


@pytest.mark.parametrize(
    "other", [{"cell": Cell(20, "llrd")}, {"cell": Cell(10, "deep")}, {"seed": 1}]
)
def test_cells_and_seeds_propose_different_points(other: dict[str, Any]) -> None:
    here, there = ({proposed(n, {}, **o)["lr"] for n in range(1, 6)} for o in ({}, other))
    assert not here & there


def test_numbers_propose_different_points() -> None:
    assert len({proposed(number, {})["lr"] for number in range(1, 20)}) == 19


def high_rates(ended: str, prospect: float) -> int:
    """How many of 30 proposals have high rates, after trials that ended so at high rates."""
    trials: Trials = {}
    for number in range(12):
        config = SPACE.first() | {"lr": (3e-4, 3e-3)[number % 2] * (1 + number / 50)}
        trial = TrialRecord(config, reports={30: 0.5}, best=a_report(30, 0.5), ended="stopped")
        if number % 2:
            trial = replace(trial, reports={30: 0.5, 60: prospect}, ended=ended)
        trials[number] = trial
    return sum(proposed(number, trials)["lr"] > 1e-3 for number in range(12, 42))


def test_what_diverged_late_is_worse_than_what_was_stopped_early() -> None:
    assert high_rates("stopped", prospect=0.9) > 20
    assert high_rates("diverged", prospect=0.9) < 10


def test_a_trial_that_runs_looks_as_if_it_had_been_stopped_at_its_last_report() -> None:
    trials, reports = history(12), {10: 0.5, 30: 0.4}
    running, stopped = (
        trials | {12: TrialRecord(SPACE.first(), reports=reports, ended=ended)}
        for ended in (None, "stopped")
    )
    assert proposed(13, running) == proposed(13, stopped)


def test_a_trial_that_has_not_reported_yet_keeps_others_from_trying_the_same() -> None:
    trials = history(12)
    busy = {n: TrialRecord(proposed(40, trials) | {"lr": 1e-3}) for n in range(12, 20)}
    assert proposed(40, trials | busy) != proposed(40, trials)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_it_is_the_cells_own_number_of_trials_that_counts(sampler: str) -> None:
    space = parse_space({"blocks": {"choice": ["11", "10", "9", "8", "7", "6"]}}, {})
    trials: Trials = {}
    for number in range(6):
        config = proposed(number, trials, sampler, space, budget=6)
        trials[number] = a_trial(config, number, "completed")
    assert len({trial.config["blocks"] for trial in trials.values()}) == 6


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_a_space_no_larger_than_the_budget_is_walked_through(sampler: str, seed: int) -> None:
    space = parse_space(
        {"blocks": {"choice": ["none", "11"]}, "label_smoothing": {"choice": [0.0, 0.1, 0.2]},
         "head_start": "zeros"}, {}
    )  # fmt: skip
    trials: Trials = {}
    for number in range(6):
        config = proposed(number, trials, sampler, space, seed=seed)
        # Every other trial runs or waits meanwhile.
        trials[number] = a_trial(config, number, "completed" if number % 2 else None)
    configs = [trial.config for trial in trials.values()]
    assert len({(c["blocks"], c["label_smoothing"]) for c in configs}) == 6


HEADS = {
    "blocks": "11",
    "head_start": {"choice": ["probe", "zero_shot"]},
    "lr": {"uniform": [0.1, 1.0]},
}


def test_a_configuration_of_another_cell_keeps_all_that_the_space_allows() -> None:
    space = parse_space(HEADS, {})
    config = {"blocks": "11", "head_start": "zero_shot", "lr": 0.5}
    assert completed(space, config, 3) == config
    overruled = completed(space, config | {"head_start": "zeros"}, 3)
    assert overruled["head_start"] in ("probe", "zero_shot")
    assert overruled == completed(space, config | {"head_start": "zeros"}, 3)
    assert overruled["lr"] == 0.5


def test_a_head_start_that_was_overruled_is_left_out_of_what_the_sampler_sees() -> None:
    space = parse_space(HEADS, {})
    config = {"blocks": "11", "head_start": "zeros", "lr": 0.5}
    trials = {n: a_trial(config | {"lr": 0.2 + n / 20}, n, "completed") for n in range(8)}
    assert proposed(8, trials, space=space)["head_start"] in ("probe", "zero_shot")
