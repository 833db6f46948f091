"""The options that say which winner of a run a command takes."""

from __future__ import annotations

import argparse

from commands.arguments import percentage, shots, whole
from records import BEST
from tune.winners import Choice


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a winner."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--partition",
        type=percentage,
        metavar="P",
        help="the table's row, in percent (default: the last with results)",
    )
    amount.add_argument(
        "--shots", type=shots, dest="partition", metavar="K", help="the row, in images of a class"
    )
    parser.add_argument(
        "--method",
        default=BEST,
        metavar="M",
        help="the table's column (default: best, as validation chooses it for the row)",
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="S", help="the final fit's seed")


def choice_of(arguments: argparse.Namespace) -> Choice:
    """Return what these options name."""
    return Choice(arguments.partition, arguments.method, arguments.seed)
