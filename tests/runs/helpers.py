"""Small runs: few partitions, short trials."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from PIL import Image
from rich.console import Console

from data import SourceConfig
from data.sources import SOURCES
from records import FinalFitResult
from records.final_fit import read_final_fit
from report import Summary
from search_spaces import Experiment, load_experiment
from tune.run import Options, run

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "search_spaces" / "digits_all.yaml"
SMALL = (
    "data.partitions=[10, 100]",
    "search.trials=5",
    "search.samples=450",
    "methods.frozen.trials=1",
    "final.seeds=2",
    "final.keep=all",
)
METHODS = ("frozen", "llrd", "seed_llrd")
SHARED = ("zero_shot", *METHODS)
"""The methods of the session's own run (the fixture `results`)."""


def small(*settings: str, name: str = "small", methods: Sequence[str] = METHODS) -> Experiment:
    """The default experiment, made small, with a few of its methods."""
    return load_experiment(DIGITS, [*SMALL, *settings], {"name": name}, methods=methods)


def final_fits_in(run_dir: Path) -> dict[str, FinalFitResult]:
    """The final fits' results, by the file's stem."""
    files = sorted((run_dir / "final_fits").glob("*.json"))
    return {path.stem: read_final_fit(path) for path in files}


def without_seconds(run_dir: Path) -> dict[str, FinalFitResult]:
    """The final fits' results, but for how long each took."""
    fits = final_fits_in(run_dir)
    return {name: dataclasses.replace(fit, seconds=0.0) for name, fit in fits.items()}


def without_cost(run_dir: Path) -> bytes:
    """The table, but for the seconds it took."""
    table = pd.read_csv(run_dir / "accuracy_table.csv", dtype=str)
    cost = ["search_seconds", "final_seconds", "saved_seconds"]
    return table.drop(columns=cost).to_csv(index=False).encode()


def weights_of(run_dir: Path) -> dict[str, bytes]:
    """The exported weights, by their files' names."""
    return {path.name: path.read_bytes() for path in run_dir.glob("winners/*")}


def write_images(folder: Path, images: Iterable[Image.Image], suffix: str = "png") -> list[str]:
    """Save images as numbered files; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i, image in enumerate(images):
        names.append(f"{i}.{suffix}")
        image.save(folder / names[-1])
    return names


def scans(count: int, first: int = 0, classes: int = 10) -> tuple[list[Image.Image], list[str]]:
    """Some scanned digits of the first classes, and what they are called."""
    listing = SOURCES["digits"].list_images(SourceConfig(source="digits"))
    rows = [i for i, label in enumerate(listing.labels) if label in listing.classes[:classes]]
    chosen = rows[first : first + count]
    images = [listing.source.image(listing.keys[row]) for row in chosen]
    return images, [listing.labels[row] for row in chosen]


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> str:
    """Write a CSV source: path, label, split and maybe group; returns its name in experiments."""
    table = list(rows)
    header = ("path", "label", "split", "group")[: len(table[0])]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *table])
    return f"csv:{path}"


def run_quietly(experiment: Experiment, out: Path, **options: Any) -> Summary:
    """Run in this process, on the session's Ray."""
    with open(os.devnull, "w") as nowhere:
        return run(experiment, Options(out=out, **options), Console(file=nowhere))


def table_of(run_dir: Path) -> pd.DataFrame:
    """Read `accuracy_table.csv`."""
    return pd.read_csv(run_dir / "accuracy_table.csv")


def events(run_dir: Path, *kinds: str) -> list[dict[str, Any]]:
    """The journal's events of some kinds; a torn last line left out."""
    lines = (run_dir / "events.jsonl").read_text().split("\n")[:-1]
    return [event for event in map(json.loads, lines) if event["event"] in kinds or not kinds]


def arguments_of(out: Path, settings: Sequence[str] = SMALL) -> list[str]:
    """The arguments of a small run."""
    sets = [piece for setting in settings for piece in ("--set", setting)]
    methods = ",".join(METHODS)
    return [str(DIGITS), "--out", str(out), "--name", "small", "--methods", methods, *sets]


def command(out: Path, *arguments: str, settings: Sequence[str] = SMALL) -> list[str]:
    """The command line of a small run."""
    script = str(ROOT / "run_search.py")
    return [sys.executable, script, *arguments_of(out, settings), *arguments]


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


def shadows(folder: Path) -> Path:
    """Make a folder of files named as modules of ours and of Python's; none may be imported.

    Whoever imports one adds its name to the file that is returned, and fails.
    """
    folder.mkdir()
    told = folder / "imported"
    for name in ("data", "errors", "files", "models", "random", "tune"):
        code = f"open({str(told)!r}, 'a').write({name!r})\nraise ImportError('not ours')\n"
        (folder / f"{name}.py").write_text(code)
    return told


def reached_by_others(folder: Path) -> list[str]:
    """What another user can read or write in a folder or below it, but for the folder itself.

    The user is one that owns nothing. Only root can ask as another.
    """
    if os.geteuid():
        pytest.skip("not root")
    find = ["find", str(folder), "-mindepth", "1", "(", "-readable", "-o", "-writable", ")"]
    found = subprocess.run(
        find, capture_output=True, text=True, user=54321, group=54321, extra_groups=[], cwd="/"
    )
    return found.stdout.splitlines()


def listening(pid: int) -> set[str]:
    """The addresses that a process and all it started listen on."""
    found = set()
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            found |= {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    return found
