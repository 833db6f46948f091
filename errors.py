"""The exception for mistakes that the user can mend, and help with its words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: one line that says what is wrong, where, and what is allowed.

    The command lines print it and exit with code 2.
    """


def one_line(error: object, most: int = 200) -> str:
    """Return an error's text in one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'near'? ` if one of `known` is near to `name`, else nothing."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}? " if near else ""
