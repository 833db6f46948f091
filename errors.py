"""The exception for mistakes that the user can mend, and help with its words."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import unicodedata
from collections.abc import Iterable
from datetime import date

NOT_SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of characters that command a terminal, or reorder what it shows."""
JOINERS = "\u200c\u200d"  # scripts and emoji need them
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


class InputError(ValueError):
    """Bad input: one line that says what is wrong, where, and what is allowed.

    The command lines print it and exit with code 2.
    """


def one_line(text: object, most: int = 200) -> str:
    r"""Return a text as one line for people, of at most `most` characters and an ellipsis.

    This is what goes to terminals: line breaks become spaces, and control characters are spelt out.

    >>> one_line("a\n  b\x1b[31m")
    'a b\\x1b[31m'
    """
    line = re.sub(r"\s*[\t-\r\x85\u2028\u2029]\s*", " ", str(text)).strip()
    cut = f"{line[:most]} …" if len(line) > most else line
    return "".join(map(_visible, cut))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in NOT_SHOWN or character in JOINERS:
        return character
    return (
        character.encode("ascii", "backslashreplace").decode()
        if character > "\x7f"
        else (f"\\x{ord(character):02x}")
    )


def shown(value: object) -> str:
    """Write a value as YAML has it, else as `repr` does, shortened before it is made.

    Some values would fill the memory.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value) if isinstance(value, date) else _SHORT.repr(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'near'? ` if one of `known` is near to `name`, else nothing.

    Capitals do not count.
    """
    cased = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name[:100].casefold(), cased, 1)
    return f"did you mean {cased[near[0]]!r}? " if near else ""
