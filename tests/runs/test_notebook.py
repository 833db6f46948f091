"""A search from a program in another folder, in a thread beside it, on a Ray that it started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.helpers import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = """
import json, signal, sys, threading
sys.path.insert(0, {root!r})
import ray
from errors import InputError
from tune import run_search

def search():
    return run_search(
        name="small", partitions=[10], methods=["frozen"], trials=1, settings={{"final.seeds": 1}}
    )

def told(work):
    thread = threading.Thread(target=lambda: found.append(work()))
    found = []
    thread.start()
    thread.join()
    return found

def refused():
    try:
        search()
    except InputError as error:
        return str(error)

options = {{"num_cpus": 1, "include_dashboard": False, "log_to_driver": False}}
ray.init(**options)
(refusal,) = told(refused)
ray.shutdown()
ray.init(**options, runtime_env={{"env_vars": {{"PYTHONPATH": {root!r}}}}})
handlers = [signal.getsignal(number) for number in signal.valid_signals()]
(run,) = told(search)
print(json.dumps([
    refusal,
    run.table["test_accuracy"].tolist(),
    ray.is_initialized(),
    handlers == [signal.getsignal(number) for number in signal.valid_signals()],
]))
"""


def test_a_search_in_a_thread_uses_the_programs_ray_and_leaves_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    run = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=200, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    refusal, accuracies, alive, same_handlers = json.loads(run.stdout.splitlines()[-1])
    assert f"cannot import {ROOT}" in refusal
    assert len(accuracies) == 1
    assert accuracies[0] > 0.5
    assert alive
    assert same_handlers
    assert (tmp_path / "results" / "small" / "report.html").exists()
