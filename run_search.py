"""Find out how much data you need and how to adapt CLIP at each amount.

    python run_search.py                          the built-in default, on scanned digits
    python run_search.py search_spaces/folder.yaml --set data.source=folder:/photos
    python run_search.py evaluate results/digits   the table's figures again, from its winners
    python -m report results/digits                the report again, at any time

Results lie in results/<name>/, the table in accuracy_table.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.text import Text

from errors import InputError, did_you_mean
from terminal import FAILED, INTERRUPTED, Terminal, run_main, say

if TYPE_CHECKING:
    from search_spaces import Experiment

ROOT = Path(__file__).resolve().parent
DEFAULT = ROOT / "search_spaces" / "digits.yaml"
CREDENTIALS = re.compile(r"(?<=://)[^@\s]*:[^@\s]*(?=@)|(?<=client_secret=)[^&\s]+")
EXIT_CODES = """exit codes:
  0    every cell has a result (evaluate: every figure is the same)
  1    a cell has no winner or no result (evaluate: a figure differs), or a fault
  2    the input is wrong, or a disk is full: one line says what to do
  130  interrupted; --resume continues"""


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `InputError`s, of one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def print_help(self, file: Any = None) -> None:
        """Print the help; unlike argparse, say so where it cannot be written."""
        Terminal().print(Text(self.format_help()), end="", soft_wrap=True)

    def parse(self, args: list[str] | None = None) -> argparse.Namespace:
        """Parse, and name what is unknown with what is near to it."""
        found, unknown = self.parse_known_args(args)
        options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if options:
            known = [name.lstrip("-") for name in self._option_string_actions]
            hint = did_you_mean(options[0].lstrip("-"), known).replace(" '", " '--")
            raise InputError(f"{options[0]}: unknown option; {hint}--help lists all")
        if unknown:
            hint = did_you_mean((args or unknown)[0], ["evaluate"])
            raise InputError(f"{unknown[0]!r}: one argument too many; {hint}--help lists all")
        return found


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
    parser = _Parser(
        prog="run_search.py",
        description=__doc__,
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
    add("--partitions", type=_numbers, metavar="1,10,100", help="percentages of the training data")
    add("--shots", type=_numbers, metavar="1,4,16", help="training images of each class")
    add("--methods", type=_names, default=[], metavar="A,B", help="only these methods")
    add("--trials", type=_whole, metavar="N", help="trials of each cell; a small space has fewer")
    add("--seed", type=_whole, metavar="S", help="seed of the search, 0 to 2147483647")
    add("--name", help="name of the run (default: the YAML file's)")
    add("--out", type=_path, default=Path("results"), metavar="DIR", help="folder of all runs")
    add(
        "--storage",
        metavar="URL",
        type=_storage,
        help="copy runs, and write checkpoints, there: s3://BUCKET/FOLDER, a path",
    )
    add(
        "--resume",
        action="store_true",
        help="continue or extend the run of this name; without one, start it",
    )
    add(
        "--time-budget",
        type=_duration,
        metavar="1h30m",
        help="end in time, final fits included: 90s, 30m, 2h, 1d, or seconds",
    )
    add(
        "--address",
        type=_address,
        metavar="ADDR",
        help="join a running Ray cluster (auto, HOST:PORT)",
    )
    add("--dry-run", action="store_true", help="print the plan and stop")
    return parser.parse(arguments)


def parse_evaluate(arguments: list[str]) -> argparse.Namespace:
    """Read the command line of `evaluate`; raises InputError if it is wrong."""
    parser = _Parser(
        prog="run_search.py evaluate",
        description="Score the exported winners of a run again, and compare with its table.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, metavar="RESULTS_DIR")
    parser.add_argument(
        "--address", type=_address, metavar="ADDR", help="join a running Ray cluster"
    )
    return parser.parse(arguments)


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


def _address(text: str) -> str:
    place = re.fullmatch(r"(?:ray://)?(?:\[[^\s\]]+\]|[^\s:/]+):(\d{1,5})", text)
    if text == "auto" or (place and 0 < int(place[1]) < 65536):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected auto or HOST:PORT, as in 10.0.0.1:6379")


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path")
    return Path(text)


def _whole(text: str) -> int:
    if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, as in 8")


def _storage(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path or URL")
    if CREDENTIALS.search(text):
        raise argparse.ArgumentTypeError(
            "keys in a URL are seen by all users of this machine; give them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    return text


def _duration(text: str) -> float:
    number = r"(\d{1,9}(?:\.\d+)?)"
    if plain := re.fullmatch(number, text.strip()):
        seconds = float(plain[1])
    else:
        units = {"d": 86400, "h": 3600, "m(?:in)?": 60, "s": 1}
        pattern = r"\s*".join(f"(?:{number} ?{unit})?" for unit in units)
        match = re.fullmatch(pattern, text.strip())
        pieces = zip(match.groups(), units.values(), strict=True) if match else ()
        seconds = sum(float(piece) * unit for piece, unit in pieces if piece)
    if not seconds:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time, as in 90s, 30m or 1h30m (nine digits at most)"
        )
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Status goes to stderr, the table to stdout.
    """
    return run_main(partial(_main, sys.argv[1:] if argv is None else argv))


def _main(given: list[str]) -> int:
    try:
        if given[:1] == ["evaluate"]:
            return _evaluate(parse_evaluate(given[1:]), given)
        return _search(parse(given), given)
    except InputError as error:  # a mistyped option may hold a key
        raise InputError(CREDENTIALS.sub("***", str(error))) from error
    except KeyboardInterrupt:
        say(Terminal(stderr=True), f"interrupted; {_how_to_go_on(given)}")
        return INTERRUPTED


def _how_to_go_on(given: list[str]) -> str:
    resume = [] if "--resume" in given or given[:1] == ["evaluate"] else ["--resume"]
    this = [os.path.relpath(sys.executable), os.path.relpath(__file__)]
    return f"nothing is lost, continue with: {shlex.join([*this, *given, *resume])}"


@contextmanager
def _told_if_killed(given: list[str], address: str | None) -> Iterator[None]:
    """Have a small process say how to go on if this one is ended within the block.

    If one of Ray's servers is killed, Ray ends this process without a word to Python.
    """
    from tune.workers.private import private_folder

    watch = 'read -r _ || printf "%s\\n" "$1" >&2'
    line = "error: this process or Ray was killed, perhaps for want of memory"
    if address is None:
        line += f" (Ray's logs: {private_folder()}/ray/session_latest/logs)"
    with subprocess.Popen(
        ["/bin/sh", "-c", watch, "sh", f"{line}; {_how_to_go_on(given)}"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ) as watcher:
        try:
            yield
        finally:
            watcher.communicate(b"over\n")


def _evaluate(arguments: argparse.Namespace, given: list[str]) -> int:
    from search_spaces.recorded import read_recorded

    read_recorded(arguments.run_dir)  # before Ray and torch, which take seconds to import
    from tune.workers.ray_environment import set_ray_environment

    set_ray_environment(loopback=arguments.address is None)
    from tune.evaluate import evaluate

    with _told_if_killed(given, arguments.address):
        same = evaluate(arguments.run_dir, arguments.address, Terminal(file=sys.stdout))
    return 0 if same else FAILED


def _search(arguments: argparse.Namespace, given: list[str]) -> int:
    experiment = _experiment(arguments)
    folder, fresh = arguments.out / experiment.name, not (arguments.resume or arguments.dry_run)
    from tune.places import check_places

    check_places(experiment, folder, arguments.storage, fresh)
    from tune.workers.ray_environment import set_ray_environment

    set_ray_environment(loopback=arguments.address is None)
    from disk import full_disk_reported
    from tune.run import Options, dry_run, run  # Ray and torch, which take seconds to import

    options = Options(
        out=arguments.out,
        resume=arguments.resume,
        address=arguments.address,
        time_budget=arguments.time_budget,
        storage=arguments.storage,
    )
    if arguments.dry_run:
        dry_run(experiment, options, Terminal(file=sys.stdout))
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        full_disk_reported(folder),
        _told_if_killed(given, arguments.address),
    ):
        report = run(experiment, options, Terminal(stderr=True))
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


def _open_closed() -> None:
    """Give the streams that are closed, as under some daemons, a place that takes everything."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _keep_stdout() -> None:
    """Leave standard output to `sys.stdout`: what libraries write there goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


if __name__ == "__main__":
    _open_closed()
    _keep_stdout()
    sys.exit(main())
