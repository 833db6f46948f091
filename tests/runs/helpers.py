"""Small runs: few partitions, short trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from report import Report
from tune.experiment import Experiment, load_experiment
from tune.run import Options, run

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "search_spaces" / "digits.yaml"
SMALL = (
    "data.partitions=[10, 100]",
    "search.trials=5",
    "search.samples=450",
    "methods.frozen.samples=3000",
    "methods.frozen.trials=2",
    "final.seeds=2",
)


def small(*settings: str, name: str = "small") -> Experiment:
    """The default experiment, made small."""
    return load_experiment(DIGITS, [*SMALL, *settings], {"name": name})


def run_quietly(experiment: Experiment, out: Path, **options: Any) -> Report:
    """Run in this process, on the session's Ray."""
    with open(os.devnull, "w") as nowhere:
        return run(experiment, Options(out=out, **options), Console(file=nowhere))


def events(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    """The journal's events of some kinds; a torn last line left out."""
    lines = (run_dir / "events.jsonl").read_text().split("\n")[:-1]
    return [event for event in map(json.loads, lines) if event["event"] in kinds or not kinds]


def command(out: Path, *arguments: str, settings: Sequence[str] = SMALL) -> list[str]:
    """The command line of a small run."""
    sets = [piece for setting in settings for piece in ("--set", setting)]
    script = str(ROOT / "run_search.py")
    return [sys.executable, script, "--out", str(out), "--name", "small", *sets, *arguments]


def start(out: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a small run in a process group of its own."""
    return subprocess.Popen(
        command(out, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
        **options,
    )
