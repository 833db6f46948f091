"""Killed, interrupted and resumed, from outside: nothing is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from records import JournalWriter, read_journal
from search_spaces import Experiment
from tests.chaos import LONG, times
from tests.chaos.processes import count, wait_for
from tests.runs.helpers import events, final_fits_in, run_quietly, small, start, table_of
from tests.tune.search.simulated import rungs_of
from tune.search.schedulers import rung_milestones
from tune.search.search import Search
from tune.search.trial_record import DEFAULT_ORIGIN
from tune.setup import prepare

pytestmark = [pytest.mark.ray, pytest.mark.slow]
KILLS, TRIALS = times(1, 18), times(4, 25)  # of the search; one more among the final fits
PARTITIONS, SEEDS = times(1, 2), times(4, 2)
FITS = PARTITIONS * 3 * SEEDS


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End what a killed driver leaves behind: its Ray runs in the same process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _killed(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Kill a driver alone, when something has happened: its Ray is left to find out."""
    assert wait_for(happened, process), "over before it could be killed"
    time.sleep(random.Random(process.pid).uniform(0, 0.3))
    assert process.poll() is None, "over before it could be killed"
    process.kill()
    process.wait()


@pytest.mark.timeout(times(600, 7200))
@pytest.mark.usefixtures("ray_session")  # which the last turn, after all kills, runs on
def test_a_driver_killed_at_random_points_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rng = random.Random(20)
    cache, run_dir = tmp_path / "cache", tmp_path / "small"
    settings = (
        f"search.trials={TRIALS}",
        f"data.partitions={[10, 100][:PARTITIONS]}",
        f"final.seeds={SEEDS}",
        *([f"features.cache={cache}"] if LONG else []),
    )
    options = ("--resume", *(piece for setting in settings for piece in ("--set", setting)))
    done: set[tuple[str, int]] = set()
    killed = []

    def started() -> subprocess.Popen[str]:
        killed.append(start(tmp_path, *options))
        return killed[-1]

    def after(reports: int) -> Callable[[], bool]:
        return lambda: count(run_dir, "trial_report") >= reports

    try:
        if LONG:  # else tests/data/features/test_store.py has it
            _killed(started(), lambda: any(cache.rglob("*.safetensors")))
            assert not count(run_dir, "stage"), "features were done"
        for _ in range(KILLS):
            _killed(started(), after(count(run_dir, "trial_report") + rng.randint(1, 4)))
            ended = {(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")}
            assert done <= ended
            done = ended
        _killed(started(), lambda: len(final_fits_in(run_dir)) >= 2)
        fitted = {path: path.stat().st_mtime_ns for path in run_dir.glob("final_fits/*.json")}
        assert len(fitted) < FITS, "all was done"
        run_quietly(small(*settings), tmp_path, resume=True)
    finally:
        for process in killed:
            _kill_group(process)
    assert {path: path.stat().st_mtime_ns for path in fitted} == fitted

    table = pd.read_csv(run_dir / "accuracy_table.csv")
    assert len(table) == PARTITIONS * 3
    assert table.test_accuracy.notna().all()
    ends = [(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")]
    assert len(ends) == len(set(ends)) == PARTITIONS * (1 + TRIALS + 1)
    assert len(final_fits_in(run_dir)) == FITS
    order = events(run_dir, "trial_started", "trial_ended")
    over: set[tuple[str, int]] = set()
    for event in order:
        key = (event["cell"], event["trial"])
        if event["event"] == "trial_ended":
            over.add(key)
        else:
            assert key not in over, "a finished trial was started again"
    _check_studies(run_dir, small(*settings))


def _check_studies(run_dir: Path, experiment: Experiment) -> None:
    """Optuna's studies and the rungs, rebuilt from the journal, hold what the journal says."""
    reports, started = events(run_dir, "trial_report"), events(run_dir, "trial_started")
    ends = {(e["cell"], e["trial"]): e["status"] for e in events(run_dir, "trial_ended")}
    storage = JournalStorage(JournalFileBackend(str(run_dir / "optuna.journal")))
    states = {"completed": "COMPLETE", "stopped": "PRUNED"}
    for name in {cell for cell, _ in ends}:
        study = optuna.load_study(study_name=name, storage=storage)
        told = sorted(trial.state.name for trial in study.trials)
        assert told == sorted(states[s] for (cell, _), s in ends.items() if cell == name)

    images = prepare(experiment).partitions
    search = Search(experiment, JournalWriter(run_dir / "check.jsonl"), images)
    search.replay(read_journal(run_dir / "events.jsonl"))
    for cell, state in search.cells.items():
        of = images[cell.partition]
        rungs = set(rung_milestones(state.horizon, experiment.search, of))
        expected: dict[int, dict[int, float]] = {rung: {} for rung in rungs}
        judged = {(e["cell"], e["trial"]) for e in started if e["origin"] != DEFAULT_ORIGIN}
        for report in reports:
            key = (report["cell"], report["trial"])
            if key[0] == str(cell) and key in judged and report["milestone"] in rungs:
                expected[report["milestone"]].setdefault(report["trial"], report["prospect"])
        assert rungs_of(state.scheduler) == expected


@pytest.mark.usefixtures("ray_session")
def test_a_search_out_of_time_ends_with_a_table(tmp_path: Path) -> None:
    """An hour passes at once, when trials of every method have reported."""
    run_dir, budget = tmp_path / "small", 3600.0

    def now() -> float:
        begun = count(run_dir, "trial_report")
        heard = {event["cell"] for event in events(run_dir, "trial_report")} if begun else ()
        return time.monotonic() + (budget if len(heard) == 3 else 0.0)

    endless = small("search.trials=20000", "data.partitions=[10]", "final.seeds=3")
    run_quietly(endless, tmp_path, time_budget=budget, now=now)
    assert [e["reason"] for e in events(run_dir, "search_closed")] == ["time budget"]
    assert len(events(run_dir, "trial_started")) < 20
    assert len(final_fits_in(run_dir)) == 3  # one of each method: the other seeds are left out
    assert table_of(run_dir).test_accuracy.notna().tolist() == [True] * 3
