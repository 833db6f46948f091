"""What Tune's controller is told, without a controller."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

import tune.trials.tuner
import tune.workers.cluster
from errors import InputError
from models.device import CONTEXT
from records.cell import Cell
from tests.tune.search.simulated import ZEROS, Simulation, a_report, experiment
from tune.search.search import Search
from tune.trials.tuner import PATIENCE, CellScheduler, CellSearcher
from tune.workers.cluster import NO_MACHINE
from tune.workers.placement import Placement

PLACEMENT = Placement({"CPU": 1.0})
ALL = Cell(100, "zeros")


def search(path: Path, trials: int) -> Search:
    """One cell without rungs."""
    spec = experiment(methods={"zeros": ZEROS}, partitions=(100,), scheduler="none", trials=trials)
    return Simulation(spec, path / "events.jsonl").search


def suggested(searcher: CellSearcher, names: Sequence[str]) -> list[int | None]:
    """The numbers of the trials that are handed out."""
    found = [searcher.suggest(name) for name in names]
    return [trial and trial["number"] for trial in found]


def test_no_more_trials_are_out_than_there_are_slots(tmp_path: Path) -> None:
    nine = search(tmp_path, trials=9)
    searcher = CellSearcher(nine, CellScheduler(nine, PLACEMENT), slots=2)
    assert suggested(searcher, "abc") == [0, 1, None]
    searcher.on_trial_complete("a", {})
    assert suggested(searcher, "cd") == [2, None]
    searcher.on_trial_complete("b", error=True)  # its process failed
    assert suggested(searcher, "d") == [3]


def test_tune_hears_of_the_end_while_the_last_trials_run(tmp_path: Path) -> None:
    finite = search(tmp_path, trials=1)
    searcher = CellSearcher(finite, CellScheduler(finite, PLACEMENT), slots=1)
    assert suggested(searcher, "ab") == [0, None]
    assert not finite.report(ALL, 0, a_report(90, 0.5))
    assert searcher.suggest("b") == Searcher.FINISHED


def test_one_more_waits_where_machines_may_join(tmp_path: Path) -> None:
    nine = search(tmp_path, trials=9)
    scheduler = CellScheduler(nine, PLACEMENT)
    searcher = CellSearcher(nine, scheduler, slots=1, spare=1)
    trials = [pending() for _ in range(3)]
    for number, trial in enumerate(trials):
        assert suggested(searcher, str(number)) == [number]
        scheduler.on_trial_add(None, trial)
        assert suggested(searcher, "x") == [None]
        trial.status = Trial.RUNNING  # all but the first on machines that have joined


NAMES = itertools.count()


def pending() -> Any:
    config = {"config": {}, "anywhere": False}
    return SimpleNamespace(trial_id=str(next(NAMES)), status=Trial.PENDING, config=config)


def test_a_free_actor_is_given_the_newest_trial(tmp_path: Path) -> None:
    """The others' own actors are starting, and Tune would kill the one whose trial it takes."""
    scheduler = CellScheduler(search(tmp_path, trials=9), PLACEMENT)
    assert scheduler.choose_trial_to_run(None) is None
    first, second, third = trials = [pending() for _ in range(3)]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    for _ in range(2):
        assert scheduler.choose_trial_to_run(None) is third
    second.status = third.status = Trial.RUNNING
    assert scheduler.choose_trial_to_run(None) is first
    first.status = Trial.TERMINATED
    assert scheduler.choose_trial_to_run(None) is None


def test_none_waits_for_ever_where_machines_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = CellScheduler(search(tmp_path, trials=9), PLACEMENT)
    now = 0.0
    monkeypatch.setattr(tune.trials.tuner.time, "monotonic", lambda: now)
    first, second = pending(), pending()
    scheduler.on_trial_add(None, first)
    now = PATIENCE
    scheduler.on_trial_add(None, second)
    assert scheduler.choose_trial_to_run(None) is second
    now += 1
    assert scheduler.choose_trial_to_run(None) is first


def test_a_search_without_machines_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = True
    scheduler = CellScheduler(search(tmp_path, trials=9), PLACEMENT)
    monkeypatch.setattr(tune.workers.cluster, "slots_now", lambda slot: int(busy))
    now = 0.0
    monkeypatch.setattr(tune.trials.tuner.time, "monotonic", lambda: now)
    first, second = pending(), pending()
    scheduler.on_trial_add(None, first)
    scheduler.on_trial_add(None, second)
    for hour in range(9):  # another search has all machines
        now = 3600.0 * hour
        assert scheduler.choose_trial_to_run(None) is not None
    busy = False
    first.status = Trial.RUNNING
    for hour in range(9):  # one runs: however long it takes
        now = 3600.0 * (9 + hour)
        assert scheduler.choose_trial_to_run(None) is second
    first.status = Trial.PENDING  # its machine is gone
    scheduler.on_trial_add(None, first)
    assert scheduler.waiting == 2  # it is known once
    assert scheduler.choose_trial_to_run(None) is not None
    now += NO_MACHINE
    assert scheduler.choose_trial_to_run(None) is not None
    now += 1
    with pytest.raises(
        InputError, match=r"no machine has had room for a trial for 900 s; .*--resume"
    ):
        scheduler.choose_trial_to_run(None)


def test_a_trial_waits_not_for_ever_for_a_machine_that_it_fits_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = True
    scheduler = CellScheduler(search(tmp_path, trials=9), PLACEMENT)
    monkeypatch.setattr(Placement, "lost", lambda self, config: not there)
    now = 0.0
    monkeypatch.setattr(tune.trials.tuner.time, "monotonic", lambda: now)
    waits, runs = pending(), pending()
    scheduler.on_trial_add(None, waits)
    scheduler.on_trial_add(None, runs)
    runs.status = Trial.RUNNING
    for hour in range(9):  # it is busy
        now = 3600.0 * hour
        assert scheduler.choose_trial_to_run(None) is waits
    there = False
    with pytest.raises(InputError, match=r"enough GPU memory for a trial for 900 s; .*--resume"):
        scheduler.choose_trial_to_run(None)


def test_what_waits_for_the_large_machine_keeps_no_other_idle(tmp_path: Path) -> None:
    nine = search(tmp_path, trials=9)
    placement = Placement(
        {"CPU": 1.0, "GPU": 1.0},
        {"small": CONTEXT, "large": 9 * CONTEXT},
        {"small": 3, "large": 1},
        {("11", "ln"): (CONTEXT, 1)},
    )
    scheduler = CellScheduler(nine, placement)
    choosy = {"config": {"blocks": "11", "kinds": "ln"}, "anywhere": False}
    assert not scheduler.crowded(choosy["config"])
    scheduler.on_trial_add(None, SimpleNamespace(status=Trial.PENDING, config=choosy))
    assert scheduler.waiting == 0  # for any machine: more may be proposed
    assert scheduler.crowded(choosy["config"])  # and the next of its kind goes anywhere
    scheduler.on_trial_add(
        None, SimpleNamespace(status=Trial.PENDING, config={**choosy, "anywhere": True})
    )
    assert scheduler.waiting == 1
    assert not scheduler.crowded({"blocks": "none"})
