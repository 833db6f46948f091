"""A run with a copy in an object store: its machine may go, and another one finishes it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from errors import InputError
from tests.runs.helpers import events, run_quietly, small, start
from tune.storage.storage import Storage

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
LIMIT = 240


def ended(folder: Storage) -> set[tuple[str, int]]:
    """Trials that have ended, by the journal's copy."""
    if "events.jsonl" not in folder.listing():
        return set()
    with folder.reading("events.jsonl") as file:
        lines = file.read().decode().split("\n")[:-1]
    found = [json.loads(line) for line in lines]
    return {(e["cell"], e["trial"]) for e in found if e["event"] == "trial_ended"}


def test_another_machine_finishes_the_run_of_one_that_is_gone(tmp_path: Path, bucket: str) -> None:
    folder, first = Storage.at(bucket) / "small", tmp_path / "first"
    process = start(first, "--storage", bucket, "--partitions", "10")
    try:
        deadline = time.monotonic() + LIMIT
        while len(ended(folder)) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.kill()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = ended(folder)
    assert len(done) >= 3
    checkpoints = [name for name in folder.listing() if name.startswith("checkpoints/")]
    assert checkpoints  # trials write there, from whatever machine
    assert not (first / "small" / "checkpoints").exists()
    shutil.rmtree(first)

    second, experiment = tmp_path / "second", small("data.partitions=[10]")
    with pytest.raises(InputError, match="already holds a run; --resume continues it"):
        run_quietly(experiment, second, storage=bucket)
    run_quietly(experiment, second, storage=bucket, resume=True)
    again = [(e["cell"], e["trial"]) for e in events(second / "small", "trial_ended")]
    assert done < set(again)
    assert len(again) == len(set(again))
    table = pd.read_csv(second / "small" / "accuracy_table.csv")
    assert table.test_accuracy.notna().tolist() == [True] * 3
    # The copy is the run, to the last file.
    here = {
        path.relative_to(second / "small").as_posix(): path.read_bytes()
        for path in (second / "small").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    assert set(folder.listing()) == set(here)
    for name, content in here.items():
        with folder.reading(name) as file:
            assert file.read() == content, name
