"""The exception for mistakes that the user can mend, and help with its words."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")
"""Colours and other commands to a terminal, which libraries put into their messages."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


class InputError(ValueError):
    """Bad input: one line that says what is wrong, where, and what is allowed.

    The command lines print it and exit with code 2.
    """


def one_line(error: object, most: int = 200) -> str:
    """Return an error's text in one line of at most `most` characters."""
    return " ".join(_CONTROLS.sub(" ", str(error)).split())[:most]


def shown(value: object) -> str:
    """Return a value's `repr`, shortened before it is made: some values would fill the memory."""
    return _SHORT.repr(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'near'? ` if one of `known` is near to `name`, else nothing."""
    near = difflib.get_close_matches(name[:100], list(known), 1)
    return f"did you mean {near[0]!r}? " if near else ""
