from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from records.cell import Cell
from search_spaces.distributions import Params, parse_space
from search_spaces.schema import SearchConfig
from tests.tune.search.simulated import LLRD
from tune.search.sampler import CellStudy, _as_seen, fresh_studies

GROUP = Cell(10, "llrd")
SPACE = parse_space(LLRD["space"], LLRD["default"])  # type: ignore[arg-type]
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Finish = tuple[Params, str, dict[int, float], float]


@pytest.fixture(params=["memory", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    if request.param == "memory":
        return InMemoryStorage()
    return fresh_studies(tmp_path / "optuna.journal")


def study(
    storage: BaseStorage | None = None, cell: Cell = GROUP, seed: int = 0, sampler: str = "tpe"
) -> CellStudy:
    search = SearchConfig.model_validate({"sampler": sampler})
    return CellStudy(cell, SPACE, search, search.trials, seed, storage or InMemoryStorage())


def reports_of(number: int) -> dict[int, float]:
    return {10: 0.1 * (number % 3), 30: 0.2 + 0.1 * (number % 4)}


def run(study: CellStudy, count: int, begin: int = 0) -> list[Finish]:
    """Trials that complete, are stopped and fail in turn."""
    finished = []
    for number in range(begin, begin + count):
        params = study.ask(number)
        for milestone, score in reports_of(number).items():
            study.report(number, milestone, score)
        status = ("completed", "stopped", "completed", "failed", "diverged", "cut")[number % 6]
        score = 0.5 + number / 10  # the intermediate values are prospects, on no common scale
        study.tell(number, status, score)
        finished.append((params, status, reports_of(number), score))
    return finished


def contents(study: CellStudy) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.params, t.distributions, t.values, t.intermediate_values)
        for t in study.trials
    ]


def test_trial_0_is_the_default(storage: BaseStorage) -> None:
    cell = study(storage)
    assert cell.ask(0) == SPACE.first()
    assert cell.trials[0].params == SPACE.first()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_follow_from_seed_group_number_and_history(
    storage: BaseStorage, sampler: str
) -> None:
    here, there = study(storage, sampler=sampler), study(sampler=sampler)
    assert run(here, 8) == run(there, 8)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_without_a_model_a_proposal_needs_no_history(sampler: str) -> None:
    late, early = study(sampler=sampler), study(sampler=sampler)
    assert late.ask(7) == early.ask(7)
    if sampler == "random":
        run(late, 3)
        assert late.ask(9) == early.ask(9)


@pytest.mark.parametrize(
    "other", [{"cell": Cell(20, "llrd")}, {"cell": Cell(10, "deep")}, {"seed": 1}]
)
def test_groups_and_seeds_propose_different_points(other: dict[str, Any]) -> None:
    rates = [[s.ask(n)["lr"] for n in range(1, 6)] for s in (study(), study(**other))]
    assert not set(rates[0]) & set(rates[1])


def test_numbers_propose_different_points() -> None:
    cell = study()
    assert len({cell.ask(number)["lr"] for number in range(1, 20)}) == 19


@pytest.mark.parametrize(
    ("status", "state", "value"),
    [
        ("completed", TrialState.COMPLETE, 0.7),
        ("stopped", TrialState.PRUNED, 0.6),  # its last report, as Optuna has it
        ("cut", TrialState.PRUNED, 0.6),
        ("diverged", TrialState.PRUNED, 0.6),
        ("failed", TrialState.FAIL, None),
    ],
)
def test_optuna_is_told_how_a_trial_ended(
    storage: BaseStorage, status: str, state: TrialState, value: float | None
) -> None:
    cell = study(storage)
    cell.ask(0)
    cell.report(0, 10, 0.4)
    cell.report(0, 30, 0.7)
    cell.report(0, 60, 0.6)
    assert [t.state for t in cell.trials] == [TrialState.RUNNING]
    cell.tell(0, status, 0.7)
    (trial,) = cell.trials
    assert trial.state is state
    assert trial.value == value
    assert trial.intermediate_values == {10: 0.4, 30: 0.7, 60: 0.6}
    assert cell.asked == {}


@pytest.mark.parametrize("resumed", [False, True])
def test_a_trial_that_diverged_late_is_shown_as_worse_than_any(resumed: bool) -> None:
    cell, reports = study(), {10: 0.4, 30: 0.9}
    params = cell.ask(0)
    for milestone, score in reports.items():
        cell.report(0, milestone, score)
    cell.tell(0, "diverged", 0.9)
    if resumed:
        cell = study()
        cell.replay(0, params, "diverged", reports, 0.9)
    (trial,) = cell.trials
    assert trial.intermediate_values == reports
    assert _as_seen(trial).intermediate_values == {}


def test_stopped_trials_are_never_best(storage: BaseStorage) -> None:
    cell = study(storage)
    for number, status, score in ((0, "completed", 0.2), (1, "stopped", 0.9)):
        cell.ask(number)
        cell.report(number, 10, score)
        cell.tell(number, status, score)
    stored = optuna.load_study(study_name=str(GROUP), storage=storage)
    assert stored.best_trial.number == 0


def test_trials_may_end_out_of_order() -> None:
    cell = study()
    params = [cell.ask(number) for number in range(4)]
    for number in (2, 0, 3, 1):
        cell.report(number, 10, number / 10)
        cell.tell(number, "completed", number / 10)
    assert [t.value for t in cell.trials] == [0.0, 0.1, 0.2, 0.3]
    assert [t.params["lr"] for t in cell.trials] == [p["lr"] for p in params]


def test_inactive_parameters_are_not_told() -> None:
    cell = study(sampler="random")
    for number in range(12):
        cell.ask(number)
    told = [(t.params["blocks"], "llrd_decay" in t.params) for t in cell.trials]
    assert {("11", False)} < set(told) <= {("11", False), ("11-7", True), ("all", True)}


@pytest.mark.parametrize("count", [0, 1, 7])
def test_replay_rebuilds_the_study(storage: BaseStorage, count: int) -> None:
    original, rebuilt = study(), study(storage)
    for number, trial in enumerate(run(original, count)):
        rebuilt.replay(number, *trial)
    assert contents(rebuilt) == contents(original)
    # and from there both go on alike
    assert run(rebuilt, 3, begin=count) == run(original, 3, begin=count)


def test_an_adopted_trial_runs_as_it_was_proposed(storage: BaseStorage) -> None:
    before = study()
    finished, orphan = run(before, 2), before.ask(2)
    cell = study(storage)
    for number, trial in enumerate(finished):
        cell.replay(number, *trial)
    cell.adopt(2, orphan)
    assert [t.state for t in cell.trials][-1] is TrialState.RUNNING
    assert {**SPACE.fixed, **cell.trials[-1].params}.items() <= orphan.items()
    for each in (before, cell):
        each.report(2, 10, 0.5)
        each.tell(2, "completed", 0.5)
    assert contents(cell) == contents(before)
    assert run(cell, 3, begin=3) == run(before, 3, begin=3)


def test_a_head_start_that_was_overruled_is_adopted_and_replayed() -> None:
    space = parse_space({"blocks": "11", "head_start": {"choice": ["probe"]}, **LR}, {})
    cell = CellStudy(GROUP, space, SearchConfig(), 16, 0, InMemoryStorage())
    config = {"blocks": "11", "head_start": "zeros", "lr": 0.5}
    cell.replay(0, config, "completed", {10: 0.5}, 0.5)
    cell.adopt(1, config)
    assert [t.params["lr"] for t in cell.trials] == [0.5, 0.5]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_it_is_the_groups_own_number_of_trials_that_counts(sampler: Any) -> None:
    space = parse_space({"blocks": {"choice": ["11", "10", "9", "8", "7", "6"]}}, {})
    cell = CellStudy(GROUP, space, SearchConfig(sampler=sampler, trials=4), 6, 0,
                       InMemoryStorage())  # fmt: skip
    found = set()
    for number in range(6):
        found.add(cell.ask(number)["blocks"])
        cell.tell(number, "completed", 0.5)
    assert len(found) == 6


LR = {"lr": {"uniform": [0.1, 1.0]}}


def test_studies_of_a_run_share_a_storage(storage: BaseStorage) -> None:
    for cell in (Cell(1, "llrd"), Cell(10, "llrd")):
        run(study(storage, cell), 2)
    names = optuna.get_all_study_names(storage)
    assert names == ["1/llrd", "10/llrd"]
    assert all(len(optuna.load_study(study_name=n, storage=storage).trials) == 2 for n in names)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_a_space_no_larger_than_a_group_is_walked_through(sampler: Any, seed: int) -> None:
    space = parse_space(
        {"blocks": {"choice": ["none", "11"]}, "label_smoothing": {"choice": [0.0, 0.1, 0.2]},
         "head_start": "zeros"}, {}
    )  # fmt: skip
    search = SearchConfig(sampler=sampler)
    cell = CellStudy(GROUP, space, search, search.trials, seed, InMemoryStorage())
    configs = []
    for number in range(6):
        configs.append(cell.ask(number))
        if number % 2:  # the others run or wait meanwhile
            cell.report(number, 10, 0.5)
            cell.tell(number, "completed", 0.5)
    assert len({(c["blocks"], c["label_smoothing"]) for c in configs}) == 6


def test_sampling_leaves_the_study_as_it_is(storage: BaseStorage) -> None:
    cell = study(storage)
    run(cell, 8)
    cell.ask(8)
    cell.report(8, 10, 0.3)
    before, numbers = contents(cell), [trial.number for trial in cell.trials]
    assert cell.sampled(9) == cell.sampled(9)
    assert contents(cell) == before
    assert [trial.number for trial in cell.trials] == numbers


def test_optuna_reads_the_file_that_is_written_and_a_run_starts_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    cell = study(fresh_studies(path))
    run(cell, 8)
    read = optuna.load_study(
        study_name=str(GROUP), storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [(t.state, t.params, t.values) for t in read.trials] == [
        (t.state, t.params, t.values) for t in cell.trials
    ]
    assert fresh_studies(path).get_all_studies() == []
