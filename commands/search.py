"""`run_search.py [SPACE.yaml]`: search, measure the winners, and report."""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from commands.arguments import (
    EXIT_CODES,
    Parser,
    address,
    duration,
    names,
    numbers,
    path,
    storage,
    whole,
)
from commands.resuming import told_if_killed
from terminal import FAILED, Terminal, say

if TYPE_CHECKING:
    from search_spaces import Experiment

DEFAULT = Path(__file__).resolve().parents[1] / "search_spaces" / "digits.yaml"
DESCRIPTION = """Find out how much data you need and how to adapt CLIP at each amount.

    python run_search.py                          the built-in default, on scanned digits
    python run_search.py search_spaces/folder.yaml --set data.source=folder:/photos
    python run_search.py evaluate results/digits   the table's figures again, from its winners
    python run_search.py report results/digits     the report again, at any time

Results lie in results/<name>/; report.html there opens in a browser."""


class _KeysHelp(argparse.Action):
    """Prints the help, with the keys that only the schema of a search space knows."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from search_spaces.keys import described_keys

        keys = textwrap.indent("\n".join(described_keys()), "  ")
        parser.epilog = f"keys for --set, with their defaults:\n{keys}\n\n{EXIT_CODES}"
        parser.print_help()
        parser.exit()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line of a search; raises InputError if it is wrong."""
    parser = Parser(
        prog="run_search.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    add = parser.add_argument
    add("-h", "--help", action=_KeysHelp, nargs=0, help="show this, and the keys for --set")
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
        help="override a key of the YAML file, by a value in YAML; may be repeated",
    )
    add("--partitions", type=numbers, metavar="1,10,100", help="percentages of the training data")
    add("--shots", type=numbers, metavar="1,4,16", help="training images of each class")
    add("--methods", type=names, default=[], metavar="A,B", help="only these methods")
    add("--trials", type=whole, metavar="N", help="trials of each cell; a small space has fewer")
    add("--seed", type=whole, metavar="S", help="seed of the search, 0 to 2147483647")
    add("--name", help="name of the run (default: the YAML file's)")
    add("--out", type=path, default=Path("results"), metavar="DIR", help="folder of all runs")
    add(
        "--storage",
        metavar="URL",
        type=storage,
        help="copy runs, and write checkpoints, there: s3://BUCKET/FOLDER, a path",
    )
    add(
        "--resume",
        action="store_true",
        help="continue or extend the run of this name; without one, start it",
    )
    add(
        "--time-budget",
        type=duration,
        metavar="1h30m",
        help="end in time, final fits included: 90s, 30m, 2h, 1d, or seconds",
    )
    add(
        "--address",
        type=address,
        metavar="ADDR",
        help="join a running Ray cluster (auto, HOST:PORT)",
    )
    add("--dry-run", action="store_true", help="print the plan and stop")
    return parser.parse(arguments)


def run(given: list[str]) -> int:
    """Search as the command line says; return the exit code."""
    arguments = parse(given)
    experiment = _experiment(arguments)
    folder, fresh = arguments.out / experiment.name, not (arguments.resume or arguments.dry_run)
    from tune.places import check_places

    check_places(experiment, folder, arguments.storage, fresh)
    from tune.workers.ray_environment import set_ray_environment

    set_ray_environment(loopback=arguments.address is None)
    from disk import full_disk_reported
    from tune import run as tune_run  # Ray and torch, which take seconds to import

    options = tune_run.Options(
        out=arguments.out,
        resume=arguments.resume,
        address=arguments.address,
        time_budget=arguments.time_budget,
        storage=arguments.storage,
    )
    if arguments.dry_run:
        tune_run.dry_run(experiment, options, Terminal(file=sys.stdout))
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        full_disk_reported(folder),
        told_if_killed(given, arguments.address),
    ):
        report = tune_run.run(experiment, options, Terminal(stderr=True))
    for line in report.missing:
        say(Terminal(stderr=True), f"error: {line}")
    report.render(Terminal())
    return FAILED if report.missing else 0


def _experiment(arguments: argparse.Namespace) -> Experiment:
    from search_spaces import load_experiment

    overrides = {
        "data.partitions": arguments.partitions,
        "data.shots": arguments.shots,
        "seed": arguments.seed,
        "name": arguments.name,
    }
    return load_experiment(
        arguments.space,
        settings=arguments.set,
        overrides={key: value for key, value in overrides.items() if value is not None},
        trials=arguments.trials,
        methods=arguments.methods,
    )


def _interrupt(*_: Any) -> NoReturn:
    """Treat a batch system's preemption as Ctrl-C; some send the signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
