"""`run_search.py predict MODEL images…`: the classes of other images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commands.arguments import command_parser, path, positive, probability
from commands.own_code import add_import
from commands.winners import add_choice, choice_of
from disk import AGAIN, full_disk_reported
from errors import InputError
from files import check_file
from models.config import CONFIG, TIMM_CONFIG
from records import EXPERIMENT, TABLES
from terminal import FAILED, Terminal, say
from tune.predictions import Ranked, listed, ranked
from tune.winners import Choice, check_choice, choose

if TYPE_CHECKING:
    from commands.predictions import Write
    from models.exported import Adapted

DESCRIPTION = """Classify images with a winner of a run.

    python run_search.py predict results/digits photos/ --out predictions.csv

MODEL is a run's directory, a file of its winners/, or a folder that export wrote."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `predict`; raises InputError if it is wrong."""
    parser = command_parser("predict", DESCRIPTION)
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL")
    add("images", type=path, nargs="+", metavar="IMAGES", help="files, and folders of images")
    add("--out", type=path, metavar="FILE.csv", help="write a table there, not to the terminal")
    add(
        "--threshold",
        type=probability,
        default=0.0,
        metavar="0.8",
        help="mark as unsure what has a lower probability, in a column or by ?",
    )
    add("--top", type=positive, default=1, metavar="N", help="the N most probable classes")
    add("--batch", type=positive, default=64, metavar="N", help="images in memory at a time")
    add_choice(parser)
    add_import(parser)
    return parser.parse(arguments)


def run(given: list[str]) -> int:
    """Predict as the words after `predict` say; return the exit code."""
    arguments = parse(given)
    errors = Terminal(stderr=True)
    _check(arguments)
    images = listed(arguments.images, partial(say, errors))
    model = _load(arguments)
    read = unread = unsure = 0
    with (
        full_disk_reported(arguments.out or Path(), AGAIN),
        _writer(arguments, model.classes) as write,
    ):
        for image in ranked(model, images, arguments.top, arguments.batch):
            if isinstance(image, Ranked):
                write(image)
                read += 1
                unsure += image.classes[0][1] < arguments.threshold
            else:
                say(errors, f"passed over: {image}")
                unread += 1
    where = f"; written to {arguments.out}" if arguments.out else ""
    noun = "image" if read == 1 else "images"
    said = f"{read} {noun} classified, {unsure} of them unsure; {unread} cannot be read"
    say(errors, f"{said}{where}")
    return 0 if read else FAILED


def _check(arguments: argparse.Namespace) -> None:
    """Raise InputError for what is wrong with the places that are named, before slow imports."""
    place = arguments.model
    if not place.exists():
        raise InputError(
            f"{place}: no such file or folder; needed is a run's directory, or a model"
        )
    package = any((place / name).is_file() for name in (CONFIG, TIMM_CONFIG))
    if place.is_dir() and not package:
        check_choice(place, choice_of(arguments))
    elif choice_of(arguments) != Choice():
        raise InputError(
            f"{place} is one model; --partition, --shots, --method and --seed choose among a run's"
        )
    if arguments.out is not None:
        check_file(arguments.out, "--out", ".csv", [table.file for table in TABLES])


def _load(arguments: argparse.Namespace) -> Adapted:
    """Load the model that is named."""
    place = arguments.model
    file = choose(place, choice_of(arguments)).weights if (place / EXPERIMENT).is_file() else place
    from models.exported import load_adapted  # torch, which takes seconds to import
    from models.package import load_package

    return load_package(file) if file.is_dir() else load_adapted(file)


def _writer(arguments: argparse.Namespace, classes: Sequence[str]) -> AbstractContextManager[Write]:
    from commands.predictions import csv_writer, table_writer

    top = min(arguments.top, len(classes))
    if arguments.out is not None:
        return csv_writer(arguments.out, top, arguments.threshold)
    return table_writer(Terminal(), classes, top, arguments.threshold)
