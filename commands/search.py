"""`run_search.py [SPACE.yaml or SOURCE]`: search, measure the winners, and report."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from commands.arguments import (
    EXIT_CODES,
    Parser,
    address,
    duration,
    model,
    names,
    numbers,
    path,
    storage,
    whole,
)
from commands.own_code import add_import
from commands.resuming import told_if_killed
from terminal import FAILED, Terminal, say

DESCRIPTION = """Find out how much data you need and how to adapt CLIP at each amount.

    python run_search.py                          the built-in default, on scanned digits
    python run_search.py folder:PATH --quick       your photos, one folder a class: a first answer
    python run_search.py folder:PATH               the whole table; csv:FILE, torchvision:NAME, too
    python run_search.py my_photos.yaml            as a search space of your own says
    python run_search.py evaluate results/digits   the table's figures again, from its winners
    python run_search.py report results/digits     the report again, at any time
    python run_search.py predict results/digits PHOTOS     classes of other photos
    python run_search.py export results/digits --out DIR   the best winner, to take away

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
    parser.add_argument(
        "-h", "--help", action=_KeysHelp, nargs=0, help="show this, and the keys for --set"
    )
    _add_what(parser)
    _add_how(parser)
    return parser.parse(arguments)


def _add_what(parser: Parser) -> None:
    """Add what says what is searched."""
    add = parser.add_argument
    add(
        "space",
        nargs="?",
        metavar="SPACE.yaml",
        help="what to search, on what data (default: search_spaces/digits.yaml); or images alone, "
        "such as folder:PATH, searched as search_spaces/folder.yaml says",
    )
    add(
        "--quick",
        action="store_true",
        help="a first answer: zero_shot, frozen, layer_norm and llrd, 6 trials each at most, at "
        "three amounts of data, in results/NAME-quick, with --time-budget 15m; other options win",
    )
    add(
        "--model",
        type=model,
        action="append",
        default=[],
        metavar="NAME[:PRETRAINED]",
        help="the encoder: ViT-B-16:openai, local-dir:FOLDER, hf-hub:ORG/NAME, timm:NAME; repeat "
        "it to compare several",
    )
    add(
        "--set",
        action="append",
        dest="settings",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a key of the YAML file, by a value in YAML; may be repeated",
    )
    add("--partitions", type=numbers, metavar="1,10,100", help="percentages of the training data")
    add("--shots", type=numbers, metavar="1,4,16", help="training images of each class")
    add("--methods", type=names, default=[], metavar="A,B", help="only these methods")
    add("--trials", type=whole, metavar="N", help="trials of each cell; a small space has fewer")
    add("--seed", type=whole, metavar="S", help="seed of the search, 0 to 2147483647")
    add_import(parser)
    add("--name", help="name of the run (default: the YAML file's, or the source's)")


def _add_how(parser: Parser) -> None:
    """Add what says where and how it runs."""
    add = parser.add_argument
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


def run(given: list[str]) -> int:
    """Search as the command line says; return the exit code."""
    asked = {name: value for name, value in vars(parse(given)).items() if value is not None}
    from tune.request import Request, chosen_models, plan, search

    request = Request(**asked | {"model": chosen_models(asked["model"])})
    status = Terminal(stderr=True)
    if request.dry_run:
        plan(request, status, Terminal(file=sys.stdout))
        return 0
    report = search(request, status, told_if_killed(given, request.address))
    for line in report.missing:
        say(status, f"error: {line}")
    report.render(Terminal())
    return FAILED if report.missing else 0
