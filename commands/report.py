"""`run_search.py report RESULTS_DIR…`: tables, plot and page again, from the runs' files."""

from __future__ import annotations

import argparse
from pathlib import Path

from commands.arguments import command_parser, path
from errors import InputError
from files import check_file
from records import PAGE
from terminal import FAILED, Terminal, say


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `report`; raises InputError if it is wrong."""
    parser = command_parser(
        "report",
        "Write the tables, the plot and the page of runs again from their files, "
        "finished or not. Several runs are also compared on one page.",
    )
    parser.add_argument("run_dirs", type=path, nargs="+", metavar="RESULTS_DIR")
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="where the page that compares several runs is written (default: comparison.html)",
    )
    return parser.parse(arguments)


def run(given: list[str]) -> int:
    """Write the reports that the words after `report` ask for; return the exit code."""
    arguments = parse(given)
    if arguments.out and len(arguments.run_dirs) == 1:
        raise InputError("--out: it is for the page that compares runs; name several of them")
    if arguments.out:
        check_file(arguments.out, "--out", ".html", [PAGE])
    from report.compare import write_comparison
    from report.encoders import read_results
    from report.write import write_run

    runs = [read_results(run_dir) for run_dir in arguments.run_dirs]  # all, before one is written
    missing = []
    for one in runs:
        summary = write_run(one)
        summary.render(Terminal())
        missing += summary.missing
    for line in missing:
        say(Terminal(stderr=True), f"error: {line}")
    if len(runs) > 1:
        page = write_comparison(runs, arguments.out or Path("comparison.html"))
        say(Terminal(), f"Compared in {page}")
    return FAILED if missing else 0
