"""`run_search.py [SPACE.yaml or SOURCE]`: search, measure the winners, and report."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from commands.arguments import (
    EXIT_CODES,
    Parser,
    address,
    chosen_models,
    duration,
    model,
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
QUICK = 15 * 60.0
"""The seconds that `--quick` takes, unless its last final fits need more."""
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
        default=str(DEFAULT),
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
        help="the encoder: ViT-B-16:openai, local-dir:FOLDER; repeat it to compare several",
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
    arguments = parse(given)
    experiment, source = _experiment(arguments)
    folder, fresh = arguments.out / experiment.name, not (arguments.resume or arguments.dry_run)
    from commands.photos import described, with_fitting_amounts
    from tune.places import check_places

    for name, encoder in experiment.models.items() or [("", experiment.model)]:
        one = experiment.model_copy(update={"model": encoder})
        check_places(one, folder / name, arguments.storage, fresh)
    if (source or arguments.quick) and not _says_amounts(arguments):
        experiment = with_fitting_amounts(experiment, arguments.quick)
    for line in described(experiment, folder) if source else ():
        say(Terminal(stderr=True), line)
    from tune.workers.ray_environment import set_ray_environment

    set_ray_environment(loopback=arguments.address is None)
    from disk import full_disk_reported
    from tune import encoders
    from tune import run as tune_run  # Ray and torch, which take seconds to import

    options = tune_run.Options(
        out=arguments.out,
        resume=arguments.resume,
        address=arguments.address,
        time_budget=arguments.time_budget or (QUICK if arguments.quick else None),
        storage=arguments.storage,
    )
    run, plan = tune_run.run, tune_run.dry_run
    if experiment.models:
        run, plan = encoders.run_encoders, encoders.plan_encoders
    if arguments.dry_run:
        plan(experiment, options, Terminal(file=sys.stdout))
        return 0
    with (
        full_disk_reported(folder),
        told_if_killed(given, arguments.address),
    ):
        report = run(experiment, options, Terminal(stderr=True))
    for line in report.missing:
        say(Terminal(stderr=True), f"error: {line}")
    report.render(Terminal())
    return FAILED if report.missing else 0


def _experiment(arguments: argparse.Namespace) -> tuple[Experiment, str | None]:
    """Read the experiment; beside it the source of images, if that was given and no file."""
    from commands.photos import as_source, run_name, space_for
    from search_spaces import load_experiment

    overrides = {
        "data.partitions": arguments.partitions,
        "data.shots": arguments.shots,
        "seed": arguments.seed,
        "name": arguments.name,
    }
    source = as_source(arguments.space)
    experiment = load_experiment(
        Path(arguments.space) if source is None else space_for(source),
        settings=arguments.set,
        overrides={k: v for k, v in overrides.items() if v is not None}
        | chosen_models(arguments.model),
        trials=arguments.trials,
        methods=arguments.methods,
        defaults={"data.source": source, "name": run_name(source)} if source else {},
        quick=arguments.quick,
    )
    return experiment, source


def _says_amounts(arguments: argparse.Namespace) -> bool:
    """Whether an option names the rows of the table."""
    keys = [setting.partition("=")[0].strip() for setting in arguments.set]
    named = {"data", "data.partitions", "data.shots"} & {*keys}
    return bool(named or arguments.partitions or arguments.shots)
