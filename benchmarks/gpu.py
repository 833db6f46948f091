"""Try all that needs a GPU on the one that is here, and measure it: `make gpu`.

The tests that need one, the default run, `evaluate` on its results, and a table for
benchmarks/RESULTS.md, in less than eight minutes. Where torch can use no GPU it says so in a line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from errors import InputError
from terminal import FAILED, Terminal, run_main, say

ROOT = Path(__file__).resolve().parents[1]
SEARCH_TIME = "150s"  # for the default run, which then ends with what it has
TESTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests"]
Stage = tuple[str, Sequence[str], Mapping[str, str]]


def stages(folder: Path) -> list[Stage]:
    """List what is run: its name, the words after `python`, and its environment."""
    script = str(ROOT / "run_search.py")
    return [
        ("tests", TESTS, {"CLIP_TEST_GPU": "1"}),
        ("the default run", [script, "--out", str(folder), "--time-budget", SEARCH_TIME], {}),
        ("evaluate", [script, "evaluate", str(folder / "digits")], {}),
        ("benchmarks", ["-m", "benchmarks.on_gpu"], {}),
    ]


def check() -> str:
    """Return the GPU's name; raises InputError where torch can use none."""
    import torch

    from models.device import gpu_trouble

    if not torch.cuda.is_available():
        raise InputError("make gpu: torch sees no GPU on this machine; needed is one")
    if trouble := gpu_trouble():
        raise InputError(f"make gpu: torch cannot use the GPU of this machine: {trouble}")
    return torch.cuda.get_device_name()


def run() -> int:
    """Run all stages, each though others fail; return the exit code."""
    console = Terminal(stderr=True)
    name, lines, failed = check(), [], False
    with tempfile.TemporaryDirectory() as folder:
        for stage, words, environment in stages(Path(folder)):
            say(console, f"{stage} …")
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            sys.stdout.write("" if stage == "benchmarks" else done.stdout)
            how = "passed" if done.returncode == 0 else f"failed (exit code {done.returncode})"
            lines.append(f"| {stage} | {how}, {time.monotonic() - began:.0f} s |")
            failed |= done.returncode != 0
        lines.append(done.stdout.rstrip())
    print(f"\n| {name} | |\n|---|---|", *lines, sep="\n")
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(run_main(run))
