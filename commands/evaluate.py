"""`run_search.py evaluate RESULTS_DIR`: the table's figures, from the winners' weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from commands.arguments import address, command_parser
from commands.own_code import add_import
from commands.resuming import told_if_killed
from terminal import FAILED, Terminal


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `evaluate`; raises InputError if it is wrong."""
    parser = command_parser(
        "evaluate",
        "Score the exported winners of a run again, and compare with its table. On CPUs every\n"
        "prediction is the same. GPUs of another kind, or other shares of them, round otherwise:\n"
        "a few predictions may differ.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RESULTS_DIR")
    parser.add_argument(
        "--address", type=address, metavar="ADDR", help="join a running Ray cluster"
    )
    add_import(parser)
    return parser.parse(arguments)


def run(given: list[str]) -> int:
    """Evaluate as the words after `evaluate` say; return the exit code."""
    arguments = parse(given)
    from search_spaces.recorded import read_recorded

    read_recorded(arguments.run_dir)  # before Ray and torch, which take seconds to import
    from tune.workers.ray_environment import set_ray_environment

    set_ray_environment(loopback=arguments.address is None)
    from tune.evaluate import evaluate

    with told_if_killed(["evaluate", *given], arguments.address):
        same = evaluate(arguments.run_dir, arguments.address, Terminal(file=sys.stdout))
    return 0 if same else FAILED
