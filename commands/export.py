"""`run_search.py export RESULTS_DIR --out DIR`: a winner as a folder to take away."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from commands.arguments import command_parser, path
from commands.own_code import add_import
from commands.winners import add_choice, choice_of
from disk import AGAIN, full_disk_reported
from errors import InputError
from files import check_folder
from metrics import WORDS
from partitions import titled
from records import TEST
from terminal import Terminal, say
from tune.winners import Chosen, check_choice, choose

if TYPE_CHECKING:
    from models.package import Card

DESCRIPTION = """Write a winner to a folder that needs nothing of this project:

    open_clip_config.json, open_clip_model.safetensors   for open_clip, by local-dir:DIR
    config.json, model.safetensors   instead of them for timm, if the encoder is timm's
    classifier.safetensors   weight and bias, for normalised embeddings
    model.onnx               from pixels to probabilities
    predict.py               classifies photos with onnxruntime, numpy and Pillow alone
    classes.json, preprocess.json, README.md"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `export`; raises InputError if it is wrong."""
    parser = command_parser("export", DESCRIPTION)
    parser.add_argument("run_dir", type=Path, metavar="RESULTS_DIR")
    add_choice(parser)
    parser.add_argument(
        "--out", type=path, required=True, metavar="DIR", help="new folder, or an empty one"
    )
    add_import(parser)
    return parser.parse(arguments)


def run(given: list[str]) -> int:
    """Export as the words after `export` say; return the exit code."""
    arguments = parse(given)
    check_choice(arguments.run_dir, choice_of(arguments))
    check_folder(arguments.out, "--out")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise InputError(f"--out: {arguments.out} is not empty; name a new folder")
    chosen = choose(arguments.run_dir, choice_of(arguments))
    from models.package import write_package  # torch, which takes seconds to import

    with full_disk_reported(arguments.out, AGAIN):
        write_package(arguments.out, chosen.weights, card_of(arguments.run_dir, chosen))
    say(Terminal(), f"{arguments.out}: {chosen.cell}, seed {chosen.seed}, of {arguments.run_dir}")
    script = shlex.quote(str(arguments.out / "predict.py"))
    say(Terminal(), f"it runs by itself: python {script} photo.jpg ({arguments.out}/README.md)")
    return 0


def card_of(run_dir: Path, chosen: Chosen) -> Card:
    """Say for the model card where a winner comes from."""
    from models.package import Card
    from report.formatting import describe
    from search_spaces.recorded import read_recorded

    experiment, _ = read_recorded(run_dir)
    run, cell = chosen.run, chosen.cell
    winner, scores = run.winner(*cell), run.scores(*cell)
    assert winner is not None
    assert scores is not None
    fits = run.fits[cell]
    of = "" if run.metric == "accuracy" else f"{WORDS[run.metric]}, "
    return Card(
        run=experiment.name,
        source=experiment.data.source,
        partition=f"{titled(cell.partition)} ({fits[chosen.seed].n_train} images)",
        method=cell.method,
        configuration=describe(winner.config, winner.kind),
        accuracy=f"{scores.interval().points()}% ({of}95% interval, mean of {len(fits)} seeds)",
        seed=chosen.seed,
        seed_accuracy=f"{100 * fits[chosen.seed].tests[TEST].accuracy:.1f}%",
    )
