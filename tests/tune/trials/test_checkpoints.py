"""Which checkpoints stay: of trials that may go on, and of each cell's best."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from records import Cell, checkpoint_name
from tests.tune.search.simulated import ZEROS, Simulation, experiment, rough, smooth
from tune.search.search import Search
from tune.storage.storage import Storage
from tune.trials.checkpoints import BEFORE, CHECKSUM, KeptCheckpoints

METHODS = {"zeros": ZEROS}
ONE = Cell(1, "zeros")
ALIVE = ("running", "left", "paused", "cut")


def trials(search: Search) -> dict[str, str]:
    """The status of every trial, by its checkpoint's name."""
    return {
        checkpoint_name(cell, number): state.status(number)
        for cell, state in search.cells.items()
        for number in state.trials
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
    return {checkpoint_name(g, w.trial) for g, w in search.winners().items()}


def best_ended(search: Search) -> set[str]:
    """The checkpoints of each cell's best trial of those that cannot go on."""
    found = set()
    for cell, state in search.cells.items():
        ended = {n: t for n, t in state.trials.items() if t.ended in ("completed", "stopped")}
        if ended:
            first = max(ended, key=lambda n: (ended[n].score, -n))
            found.add(checkpoint_name(cell, first))
    return found


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "none"])
def test_a_trial_that_has_ended_keeps_its_checkpoint_only_as_the_best(
    tmp_path: Path, scheduler: str
) -> None:
    spec, folder = experiment(scheduler=scheduler, trials=9, methods=METHODS), tmp_path / "kept"
    simulation = Simulation(spec, tmp_path / "events.jsonl", rough, slots=3)
    search = simulation.search
    folder.mkdir()
    kept = KeptCheckpoints(Storage.at(folder), search)

    def ended(cell: Cell, number: int) -> None:
        (folder / checkpoint_name(cell, number)).touch()
        kept.ended(cell, number)

    search.subscribe(ended)
    for _ in range(25):
        simulation.run(1)
        assert len(names(folder)) <= len(search.cells)
        assert set(names(folder)) <= {n for n, s in trials(search).items() if s not in ALIVE}
    simulation.run()
    # A trial whose process died may win; it is fitted anew.
    fallen = {name for name, status in trials(search).items() if status == "failed"}
    assert best(search) - fallen <= names(folder)
    assert len(names(folder)) <= len(search.cells)


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "none"])
def test_what_is_cut_off_keeps_its_checkpoint(tmp_path: Path, scheduler: str) -> None:
    spec = experiment(scheduler=scheduler, trials=9, methods=METHODS)
    simulation = Simulation(spec, tmp_path / "events.jsonl", rough, slots=3)
    search = simulation.search
    gone: list[tuple[Cell, int]] = []
    search.subscribe(lambda cell, number: gone.append((cell, number)))
    simulation.run(20)
    search.close("time is up")
    simulation.run()
    over = [
        (g, n) for g, s in search.cells.items() for n in s.trials
        if s.status(n) not in ALIVE
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
    assert names(folder) == alive | best(search) | best_ended(search)
    assert search.unfinished
    assert "cut" not in trials(search).values()
    kept.release()
    assert names(folder) == alive


def test_a_resumed_trial_that_leads_keeps_its_checkpoint_when_others_end(tmp_path: Path) -> None:
    events, folder = tmp_path / "events.jsonl", tmp_path / "kept"
    spec = experiment(trials=9, methods=METHODS)
    written(Simulation(spec, events, rough, slots=3).run(9).search, folder)
    simulation = Simulation(spec, events, rough, slots=3)
    search = simulation.search
    kept = KeptCheckpoints(Storage.at(folder), search)
    search.subscribe(kept.ended)
    found = names(folder)
    while simulation.flying or not search.finished:
        alive = {name for name, status in trials(search).items() if status in ALIVE}
        assert alive & found <= names(folder)
        simulation.run(1)


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
        assert len(simulation.search.cells[ONE].under_way("paused")) <= 9 + 3


# A storage that fails


@contextlib.contextmanager
def away(*methods: str) -> Iterator[None]:
    """A storage that fails in these."""

    def fail(*_: object) -> None:
        raise OSError("connection reset")

    with pytest.MonkeyPatch.context() as patch:
        for method in methods:
            patch.setattr(Storage, method, fail)
        yield


def test_what_a_storage_does_not_remove_goes_at_the_next_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, folder = experiment(methods=METHODS, partitions=(1,)), tmp_path / "kept"
    search = Simulation(spec, tmp_path / "events.jsonl", smooth).run().search
    folder.mkdir()
    kept = KeptCheckpoints(Storage.at(folder), search)
    written(search, folder)
    first, second = sorted(
        {*search.cells[ONE].trials} - {kept._leader(ONE, search.cells[ONE].trials)}
    )[:2]
    with away("delete"):
        kept.ended(ONE, first)
    assert "connection reset" in caplog.text
    assert checkpoint_name(ONE, first) in names(folder)
    kept.ended(ONE, second)
    assert not names(folder) & {checkpoint_name(ONE, first), checkpoint_name(ONE, second)}


@pytest.mark.parametrize("failing", ["listing", "delete"])
def test_what_a_storage_does_not_remove_at_first_goes_at_the_release(
    tmp_path: Path, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec, folder = experiment(methods=METHODS), tmp_path / "kept"
    search = Simulation(spec, tmp_path / "events.jsonl", smooth).run().search
    written(search, folder)
    with away(failing):
        kept = KeptCheckpoints(Storage.at(folder), search)
        kept.release()
    assert caplog.text.count("connection reset") == 2
    assert names(folder) == {*trials(search)}
    kept.release()
    assert not names(folder)


# A journal that lacks what trials reported


def left(folder: Path, name: str, before: int) -> None:
    """A checkpoint of a trial that had reported `before` before its last report."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"weights" + before.to_bytes(BEFORE, "little") + b"\0" * CHECKSUM)


def cut_off(tmp_path: Path) -> tuple[Search, Cell, int, list[int]]:
    """A search with a trial in flight, and that one's reports."""
    spec = experiment(methods=METHODS, scheduler="none")
    search = Simulation(spec, tmp_path / "events.jsonl", smooth, slots=3).run(7).search
    for cell, number in search.unfinished:
        if reports := search.cells[cell].trials[number].reports:
            return search, cell, number, sorted(reports)
    raise AssertionError("none in flight has reported")


@pytest.mark.parametrize(("ahead", "stays"), [(-1, True), (0, True), (1, False)])
def test_a_trial_beyond_the_report_after_the_last_known_begins_again(
    tmp_path: Path, ahead: int, stays: bool
) -> None:
    """Else the rungs between would never hear of it."""
    search, cell, number, reports = cut_off(tmp_path)
    name = checkpoint_name(cell, number)
    left(tmp_path / "kept", name, reports[-1] + ahead)
    KeptCheckpoints(Storage.at(tmp_path / "kept"), search)
    assert (name in names(tmp_path / "kept")) == stays


@pytest.mark.parametrize("failing", ["reading", "delete"])
def test_a_start_from_a_storage_that_fails_is_refused_in_one_line(
    tmp_path: Path, failing: str
) -> None:
    search, cell, number, reports = cut_off(tmp_path)
    left(tmp_path / "kept", checkpoint_name(cell, number), reports[-1] + 1)
    with away(failing), pytest.raises(InputError, match="--resume tries again") as caught:
        KeptCheckpoints(Storage.at(tmp_path / "kept"), search)
    assert "\n" not in str(caught.value)
