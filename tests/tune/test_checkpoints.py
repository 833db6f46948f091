"""Which checkpoints stay: of trials that may go on, and of each group's best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tune.simulation import ZEROS, Simulation, experiment, rough, smooth
from tune.checkpoints import KeptCheckpoints, checkpoint_name
from tune.groups import Group
from tune.search import Search
from tune.storage import Storage

METHODS = {"zeros": ZEROS}
ONE = Group(1, "zeros")
ALIVE = ("running", "paused", "cut")


def trials(search: Search) -> dict[str, str]:
    """The status of every trial, by its checkpoint's name."""
    return {
        checkpoint_name(group, number): trial.status
        for group, state in search.groups.items()
        for number, trial in state.trials.items()
    }


def written(search: Search, folder: Path) -> None:
    """Let every trial have written a checkpoint."""
    folder.mkdir(exist_ok=True)
    for name in trials(search):
        (folder / name).touch()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def best(search: Search) -> set[str]:
    """The checkpoints of the winners."""
    return {checkpoint_name(g, w.number) for g, w in search.winners().items()}


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "none"])
def test_a_trial_that_has_ended_keeps_its_checkpoint_only_as_the_best(
    tmp_path: Path, scheduler: str
) -> None:
    spec, folder = experiment(scheduler=scheduler, trials=9, methods=METHODS), tmp_path / "kept"
    simulation = Simulation(spec, tmp_path / "events.jsonl", rough, slots=3)
    search = simulation.search
    folder.mkdir()
    kept = KeptCheckpoints(Storage.at(folder), search)

    def ended(group: Group, number: int) -> None:
        (folder / checkpoint_name(group, number)).touch()
        kept.ended(group, number)

    search.on_end = ended
    for _ in range(25):
        simulation.run(1)
        assert len(names(folder)) <= len(search.groups)
        assert set(names(folder)) <= {n for n, s in trials(search).items() if s not in ALIVE}
    simulation.run()
    # A trial whose process died may win; it is fitted anew.
    fallen = {name for name, status in trials(search).items() if status == "failed"}
    assert best(search) - fallen <= names(folder)
    assert len(names(folder)) <= len(search.groups)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "none"])
def test_what_is_cut_off_keeps_its_checkpoint(tmp_path: Path, scheduler: str) -> None:
    spec = experiment(scheduler=scheduler, trials=9, methods=METHODS)
    simulation = Simulation(spec, tmp_path / "events.jsonl", rough, slots=3)
    search = simulation.search
    gone: list[tuple[Group, int]] = []
    search.on_end = lambda group, number: gone.append((group, number))
    simulation.run(20)
    search.close("time is up")
    simulation.run()
    over = [
        (g, n) for g, s in search.groups.items() for n, t in s.trials.items()
        if t.status not in ALIVE
    ]  # fmt: skip
    assert sorted(gone, key=str) == sorted(over, key=str)
    assert "paused" not in trials(search).values()
    assert "cut" in trials(search).values()


@pytest.mark.parametrize("changes", [{}, {"partitions": (100,)}, {"trials": 2}])
@pytest.mark.parametrize("closed", [False, True])
def test_a_resumed_run_keeps_the_checkpoints_of_what_goes_on_and_of_the_best(
    tmp_path: Path, changes: dict[str, Any], closed: bool
) -> None:
    events, folder = tmp_path / "events.jsonl", tmp_path / "kept"
    before = Simulation(experiment(trials=9, methods=METHODS), events, rough, slots=3).run(9)
    if closed:
        before.search.close("time is up")
        before.run()
    written(before.search, folder)
    (folder / ".1-zeros-0.pt.17.tmp").touch()  # half written
    search = Simulation(experiment(**{"methods": METHODS, "trials": 9, **changes}), events).search
    kept = KeptCheckpoints(Storage.at(folder), search)
    alive = {name for name, status in trials(search).items() if status in ALIVE}
    assert names(folder) == alive | best(search)
    assert search.unfinished
    assert "cut" not in trials(search).values()
    kept.release()
    assert names(folder) == alive


def test_a_finished_search_that_is_started_again_keeps_its_winners(tmp_path: Path) -> None:
    spec, folder = experiment(methods=METHODS), tmp_path / "kept"
    search = Simulation(spec, tmp_path / "events.jsonl").run().search
    written(search, folder)
    kept = KeptCheckpoints(Storage.at(folder), search)
    assert names(folder) == best(search)
    kept.release()
    assert not names(folder)


def test_few_checkpoints_wait(tmp_path: Path) -> None:
    """Never more than could still be promoted."""
    spec = experiment(methods=METHODS, partitions=(1,), trials=27)
    simulation = Simulation(spec, tmp_path / "events.jsonl", smooth)
    simulation.fill()
    while simulation.flying:
        simulation.step()
        simulation.fill()
        paused = [t for t in simulation.search.groups[ONE].trials.values() if t.status == "paused"]
        assert len(paused) <= 9 + 3
