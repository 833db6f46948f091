"""What the command lines share: a parser whose mistakes are one line, and types of arguments."""

from __future__ import annotations

import argparse
import re
from math import nan
from pathlib import Path
from typing import Any, NoReturn

from rich.text import Text

from commands import COMMANDS
from errors import InputError, did_you_mean
from partitions import Partition, Shots
from terminal import Terminal

CREDENTIALS = re.compile(r"(?<=://)[^@\s]*:[^@\s]*(?=@)|(?<=client_secret=)[^&\s]+")
EXIT_CODES = """exit codes:
  0    every cell has a result (evaluate: every figure is the same)
  1    a cell has no winner or no result (evaluate: a figure differs; predict: no image can be
       read), or a fault
  2    the input is wrong, or a disk is full: one line says what to do
  130  interrupted; --resume continues"""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `InputError`s, of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the command line."""
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
            hint = did_you_mean((args or unknown)[0], COMMANDS)
            raise InputError(f"{unknown[0]!r}: one argument too many; {hint}--help lists all")
        return found


def command_parser(name: str, description: str) -> Parser:
    """Make the parser of a command, such as `evaluate`; its help ends with the exit codes."""
    return Parser(
        prog=f"run_search.py {name}",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def numbers(text: str) -> list[float]:
    """Read numbers with commas between them."""
    try:
        values = [float(piece) for piece in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, as in 1,10,100") from None
    return [int(value) if value.is_integer() else value for value in values]


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    names = [piece.strip() for piece in text.split(",") if piece.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names, as in frozen,llrd")
    return names


def address(text: str) -> str:
    """Read the address of a Ray cluster."""
    place = re.fullmatch(r"(?:ray://)?(?:\[[^\s\]]+\]|[^\s:/]+):(\d{1,5})", text)
    if text == "auto" or (place and 0 < int(place[1]) < 65536):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected auto or HOST:PORT, as in 10.0.0.1:6379")


def model(text: str) -> dict[str, str | None]:
    """Read an encoder, as `encoder_keys` does."""
    from tune.request import encoder_keys

    try:
        return encoder_keys(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def path(text: str) -> Path:
    """Read a path."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path")
    return Path(text)


def whole(text: str) -> int:
    """Read a whole number."""
    if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, as in 8")


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if (number := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 1 or more")
    return number


def probability(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1, as in 0.8")
    return number


def percentage(text: str) -> Partition:
    """Read one partition in percent."""
    found = numbers(text)
    if len(found) > 1 or not 0 < found[0] <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a percentage, as in 10")
    return found[0]


def shots(text: str) -> Partition:
    """Read one partition in images of each class."""
    return Shots(positive(text))


def storage(text: str) -> str:
    """Read the URL or path of a folder; keys in it are refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; expected a path or URL")
    if CREDENTIALS.search(text):
        raise argparse.ArgumentTypeError(
            "keys in a URL are seen by all users of this machine; give them in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    return text


def duration(text: str) -> float:
    """Read a time, as in 1h30m, in seconds."""
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
