"""Killed, interrupted and resumed, from outside: nothing is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from records import JournalWriter
from tests.chaos import times
from tests.chaos.processes import count, wait_for
from tests.runs.helpers import SMALL, command, events, final_fits_in, listening, small, start
from tests.tune.search.simulated import records
from tune.search.cell_search import DEFAULT_ORIGIN
from tune.search.schedulers.asha import rung_milestones
from tune.search.search import Search
from tune.setup import prepare, training_images

pytestmark = [pytest.mark.ray, pytest.mark.slow]
LIMIT = 240
KILLS, TRIALS = times(1, 18), times(4, 25)  # of the search; a kill before it and one after


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


def _reported(out: Path, process: subprocess.Popen[str], least: int) -> None:
    """Wait until the journal holds so many reports and ends of stages, or the run is over."""
    wait_for(lambda: count(out / "small", "trial_report", "stage") >= least, process)


@pytest.mark.timeout(times(600, 7200))
def test_a_driver_killed_at_random_points_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rng = random.Random(20)
    cache, run_dir = tmp_path / "cache", tmp_path / "small"
    options = ("--resume", "--set", f"search.trials={TRIALS}", "--set", f"features.cache={cache}")
    done: set[tuple[str, int]] = set()
    killed = []

    def started() -> subprocess.Popen[str]:
        killed.append(start(tmp_path, *options))
        return killed[-1]

    def after(reports: int) -> Callable[[], bool]:
        return lambda: count(run_dir, "trial_report") >= reports

    try:
        _killed(started(), lambda: any(cache.rglob("*.safetensors")))
        assert not count(run_dir, "stage"), "features were done"
        for _ in range(KILLS):
            _killed(started(), after(count(run_dir, "trial_report") + rng.randint(1, 4)))
            ended = {(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")}
            assert done <= ended
            done = ended
        _killed(started(), lambda: len(final_fits_in(run_dir)) >= 2)
        fitted = {path: path.stat().st_mtime_ns for path in run_dir.glob("final_fits/*.json")}
        assert len(fitted) < 2 * 3 * 2, "all was done"
        finished = subprocess.run(
            command(tmp_path, *options), capture_output=True, text=True, timeout=LIMIT
        )
    finally:
        for process in killed:
            _kill_group(process)
    assert finished.returncode == 0, finished.stderr
    assert {path: path.stat().st_mtime_ns for path in fitted} == fitted

    table = pd.read_csv(run_dir / "accuracy_table.csv")
    assert len(table) == 6
    assert table.test_accuracy.notna().all()
    ends = [(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")]
    assert len(ends) == len(set(ends)) == 2 * (1 + TRIALS + 1)
    assert len(final_fits_in(run_dir)) == 2 * 3 * 2
    order = events(run_dir, "trial_started", "trial_ended")
    over: set[tuple[str, int]] = set()
    for event in order:
        key = (event["cell"], event["trial"])
        if event["event"] == "trial_ended":
            over.add(key)
        else:
            assert key not in over, "a finished trial was started again"
    _check_studies(run_dir)


def _check_studies(run_dir: Path) -> None:
    """Optuna's studies and the rungs, rebuilt from the journal, hold what the journal says."""
    reports, started = events(run_dir, "trial_report"), events(run_dir, "trial_started")
    ends = {(e["cell"], e["trial"]): e["status"] for e in events(run_dir, "trial_ended")}
    storage = JournalStorage(JournalFileBackend(str(run_dir / "optuna.journal")))
    states = {"completed": "COMPLETE", "stopped": "PRUNED"}
    for name in {cell for cell, _ in ends}:
        study = optuna.load_study(study_name=name, storage=storage)
        told = sorted(trial.state.name for trial in study.trials)
        assert told == sorted(states[s] for (cell, _), s in ends.items() if cell == name)

    experiment = small(f"search.trials={TRIALS}")
    images = training_images(prepare(experiment))
    search = Search(experiment, JournalWriter(run_dir / "check.jsonl"), InMemoryStorage(), images)
    search.replay(events(run_dir))
    for cell, state in search.cells.items():
        horizon, of = experiment.horizon(cell.method), images[cell.partition]
        rungs = set(rung_milestones(horizon, experiment.search, of))
        expected: dict[int, dict[int, float]] = {rung: {} for rung in rungs}
        judged = {(e["cell"], e["trial"]) for e in started if e["origin"] != DEFAULT_ORIGIN}
        for report in reports:
            key = (report["cell"], report["trial"])
            if key[0] == str(cell) and key in judged and report["milestone"] in rungs:
                expected[report["milestone"]].setdefault(report["trial"], report["prospect"])
        assert records(state.rungs) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_continue(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "--set", "data.partitions=[10]")
    _reported(tmp_path, process, 4)
    process.send_signal(number)
    began = time.monotonic()
    try:
        _, errors = process.communicate(timeout=30)
        took = time.monotonic() - began
    finally:
        _kill_group(process)
    assert process.returncode == 130, errors
    assert "--resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    print(f"took {took:.1f} s")
    assert took < 10
    whole = (tmp_path / "small" / "events.jsonl").read_bytes()
    assert whole.endswith(b"\n")
    assert len(events(tmp_path / "small", "trial_report", "stage")) >= 4


def test_the_dashboard_and_the_gauges_answer_on_loopback_alone(tmp_path: Path) -> None:
    # A folder of its own: Ray's runs on a machine share the file that names the metrics' ports.
    # A short one, as it has sockets in it.
    temporary = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    process = start(
        tmp_path,
        *("--set", "data.partitions=[10]", "--trials", "400"),  # it is not to end by itself
        env={**os.environ, "RAY_TMPDIR": str(temporary)},
    )
    assert process.stderr is not None
    try:
        address = next(
            line.split()[-1] for line in process.stderr if line.startswith("dashboard: http")
        )
        assert address.startswith("http://127.0.0.1:")
        assert b"Ray Dashboard" in _get(address)
        _reported(tmp_path, process, 8)
        gauges = [
            f"ray_clip_search_{g}" for g in ("trials", "best_val_accuracy", "samples_per_second")
        ]
        missing = wanted = [*gauges, 'state="completed"']
        deadline = time.monotonic() + LIMIT
        while missing and process.poll() is None and time.monotonic() < deadline:
            metrics = "".join(_metrics(target) for target in _metrics_targets(temporary))
            missing = [text for text in wanted if text not in metrics]
        assert missing == []
        assert listening(process.pid) == {"127.0.0.1"}
    finally:
        _kill_group(process)
        shutil.rmtree(temporary, ignore_errors=True)


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=20) as page:
        content: bytes = page.read()
        return content


def _metrics(target: str) -> str:
    """What a metrics port says; nothing where none listens yet."""
    try:
        return _get(f"http://{target}/metrics").decode()
    except OSError:
        return ""


def _metrics_targets(temporary: Path) -> list[str]:
    """Where Prometheus would look for the run's metrics."""
    file = temporary / "ray" / "prom_metrics_service_discovery.json"
    return [target for entry in json.loads(file.read_text()) for target in entry["targets"]]


def test_a_time_budget_ends_in_time_with_a_table(tmp_path: Path) -> None:
    # However fast the machine: 500 trials were once done before the budget.
    long = (*SMALL, "search.trials=20000", "data.partitions=[10]", "final.seeds=1")
    began = time.monotonic()
    finished = subprocess.run(
        command(tmp_path, "--time-budget", "75s", settings=long),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert finished.returncode == 0, finished.stderr
    assert time.monotonic() - began < 150  # the trials would take an hour
    run_dir = tmp_path / "small"
    assert [e["reason"] for e in events(run_dir, "search_closed")] == ["time budget"]
    assert pd.read_csv(run_dir / "accuracy_table.csv").test_accuracy.notna().tolist() == [True] * 3
