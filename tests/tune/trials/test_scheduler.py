"""Which trials Tune is handed, without its controller."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from records import Cell
from tests.runs.helpers import events
from tests.tune.search.simulated import ZEROS, Simulation, a_report, experiment
from tune.search.search import Search
from tune.trials.scheduler import CellScheduler, CellSearcher
from tune.workers.machines import LABEL, BarredMachines, UnfitMachineError
from tune.workers.placement import Placement, TrialQueue

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
    searcher = CellSearcher(nine, CellScheduler(nine, TrialQueue(PLACEMENT)), slots=2)
    assert suggested(searcher, "abc") == [0, 1, None]
    searcher.on_trial_complete("a", {})
    assert suggested(searcher, "cd") == [2, None]
    searcher.on_trial_complete("b", error=True)  # its process failed
    assert suggested(searcher, "d") == [3]


def test_tune_hears_of_the_end_while_the_last_trials_run(tmp_path: Path) -> None:
    finite = search(tmp_path, trials=1)
    searcher = CellSearcher(finite, CellScheduler(finite, TrialQueue(PLACEMENT)), slots=1)
    assert suggested(searcher, "ab") == [0, None]
    assert not finite.report(ALL, 0, a_report(90, 0.5))
    assert searcher.suggest("b") == Searcher.FINISHED


def test_one_more_waits_where_machines_may_join(tmp_path: Path) -> None:
    nine = search(tmp_path, trials=9)
    scheduler = CellScheduler(nine, TrialQueue(PLACEMENT))
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
    return SimpleNamespace(
        trial_id=str(next(NAMES)), status=Trial.PENDING, config=config, num_failures=0
    )


def fail(
    scheduler: CellScheduler, trial: Any, file: Path, raised: object, drained: bool = False
) -> None:
    """Have a trial's process fail, as Tune tells of it."""
    trial.num_failures += not drained
    with file.open("a") as errors:
        errors.write(f"Failure # 1 (occurred at noon)\n{raised}\n")
    trial.error_file = str(file)
    scheduler.on_trial_error(None, trial)


def test_a_trial_on_an_unfit_machine_goes_elsewhere(tmp_path: Path) -> None:
    told: list[str] = []
    barred, nine = BarredMachines(told.append), search(tmp_path, trials=9)
    scheduler = CellScheduler(nine, TrialQueue(PLACEMENT), barred=barred)
    asked: list[Any] = []
    for node in "ba":
        trial = pending()
        trial.update_resources = asked.append
        raised = UnfitMachineError(node, f"10.0.0.{node}", "no image")
        text = f"  File a\ntune.workers.machines.UnfitMachineError: {raised}"
        fail(scheduler, trial, tmp_path / node, text)
        scheduler.on_trial_add(None, trial)
    wanted = [request._kwargs["bundle_label_selector"] for request in asked]
    assert wanted == [[{LABEL: "!in(b)"}], [{LABEL: "!in(a,b)"}]]
    assert told == [f"10.0.0.{node} has joined and gets no work: no image" for node in "ba"]
    assert not scheduler.failures


def test_an_unfit_or_drained_machine_takes_no_try_of_a_trial(tmp_path: Path) -> None:
    nine, given_up = search(tmp_path, trials=9), list[Any]()
    scheduler = CellScheduler(nine, TrialQueue(PLACEMENT))
    searcher = CellSearcher(nine, scheduler, slots=1)
    controller: Any = SimpleNamespace(stop_trial=given_up.append)
    trial = pending()
    trial.update_resources = lambda request: None
    assert suggested(searcher, [trial.trial_id]) == [0]
    unfit = UnfitMachineError("a", "10.0.0.1", "no image")
    text = f"tune.workers.machines.UnfitMachineError: {unfit}"
    for raised in ("The actor died", "The actor died", text, text, text):
        fail(scheduler, trial, tmp_path / "error", raised)
        scheduler.on_trial_add(controller, trial)
    for _ in range(3):
        fail(scheduler, trial, tmp_path / "error", "The actor was preempted", drained=True)
        scheduler.on_trial_add(controller, trial)
    assert given_up == []
    fail(scheduler, trial, tmp_path / "error", "ValueError: a fault")
    scheduler.on_trial_add(controller, trial)
    assert given_up == [trial]
    searcher.on_trial_complete(trial.trial_id)  # as Tune tells of a trial that is stopped
    (ended,) = events(tmp_path, "trial_ended")
    assert (ended["status"], ended["reason"]) == ("failed", "ValueError: a fault; see Ray's logs")
