"""Find out how much data you need and how to adapt CLIP at each amount.

    python run_search.py                          the built-in default, on scanned digits
    python run_search.py search_spaces/folder.yaml --set data.source=folder:/photos
    python run_search.py evaluate results/digits   the table's figures again, from its winners

Results lie in results/<name>/, the table in accuracy_table.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from disk import full_disk_reported
from errors import InputError
from search_spaces import load_experiment
from tune.workers.ray_environment import set_ray_environment

ROOT = Path(__file__).resolve().parent
DEFAULT = ROOT / "search_spaces" / "digits.yaml"
INTERRUPTED = 130  # exit code


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `InputError`s, of one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of a search; raises InputError if it is wrong."""
    parser = _Parser(
        prog="run_search.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "space",
        nargs="?",
        type=Path,
        default=DEFAULT,
        metavar="SPACE.yaml",
        help="what to search, on what data (default: search_spaces/digits.yaml)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a key of the YAML file; may be repeated",
    )
    add("--partitions", type=_numbers, metavar="1,10,100", help="percentages of the training data")
    add("--methods", type=_names, default=[], metavar="A,B", help="only these methods")
    add(
        "--trials", type=int, metavar="N", help="trials of each cell, at most one per configuration"
    )
    add("--seed", type=int, metavar="S", help="seed of the search")
    add("--name", help="name of the run (default: the YAML file's)")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="folder of all runs")
    add(
        "--storage",
        metavar="URL",
        help="copy runs, and write checkpoints, there: s3://BUCKET/FOLDER, a path",
    )
    add("--resume", action="store_true", help="continue or extend the run of this name, if any")
    add("--time-budget", type=_duration, metavar="2h", help="end in time, final fits included")
    add("--address", metavar="ADDR", help="join a running Ray cluster (auto, HOST:PORT)")
    add("--dry-run", action="store_true", help="print the plan and stop")
    return parser.parse_args(arguments)


def parse_evaluate(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `evaluate`; raises InputError if it is wrong."""
    parser = _Parser(
        prog="run_search.py evaluate",
        description="Score the exported winners of a run again, and compare with its table.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RESULTS_DIR")
    parser.add_argument("--address", metavar="ADDR", help="join a running Ray cluster")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[float]:
    try:
        values = [float(piece) for piece in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, as in 1,10,100") from None
    return [int(value) if value.is_integer() else value for value in values]


def _names(text: str) -> list[str]:
    names = [piece.strip() for piece in text.split(",") if piece.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names, as in frozen,llrd")
    return names


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|d)?", text.strip())
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time, as in 90s, 30m or 2h")
    seconds = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    return float(match[1]) * seconds[match[2] or "s"]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Status goes to stderr, the table to stdout.
    """
    given = sys.argv[1:] if argv is None else argv
    errors = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    try:
        if given[:1] == ["evaluate"]:
            return _evaluate(parse_evaluate(given[1:]))
        return _search(parse(given))
    except InputError as error:
        # A name in the message may hold a line break.
        errors.print(f"error: {' '.join(str(error).split())}", markup=False)
        return 2
    except KeyboardInterrupt:
        resume = [] if "--resume" in given or given[:1] == ["evaluate"] else ["--resume"]
        this = [os.path.relpath(sys.executable), os.path.relpath(__file__)]
        command = shlex.join([*this, *given, *resume])
        errors.print(f"interrupted; nothing is lost, continue with: {command}", markup=False)
        return INTERRUPTED


def _evaluate(arguments: argparse.Namespace) -> int:
    set_ray_environment(loopback=arguments.address is None)
    from tune.evaluate import evaluate

    return 0 if evaluate(arguments.run_dir, arguments.address, Console()) else 1


def _search(arguments: argparse.Namespace) -> int:
    set_ray_environment(loopback=arguments.address is None)
    overrides = {
        "data.partitions": arguments.partitions,
        "seed": arguments.seed,
        "name": arguments.name,
    }
    experiment = load_experiment(
        arguments.space,
        settings=arguments.set,
        overrides={key: value for key, value in overrides.items() if value is not None},
        trials=arguments.trials,
        methods=arguments.methods,
    )
    from tune.run import Options, dry_run, run  # Ray and torch, which take seconds to import

    options = Options(
        out=arguments.out,
        resume=arguments.resume,
        address=arguments.address,
        time_budget=arguments.time_budget,
        storage=arguments.storage,
    )
    if arguments.dry_run:
        dry_run(experiment, options, Console())
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    with full_disk_reported(options.out / experiment.name):
        report = run(experiment, options, Console(stderr=True))
    report.render(Console())
    return 0


def _interrupt(*_: Any) -> NoReturn:
    """Treat a batch system's preemption as Ctrl-C; some send the signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
