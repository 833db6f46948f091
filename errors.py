"""The one exception that means "the user can mend this"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: one line that says what is wrong, where, and what is allowed.

    `run_search.py` prints it and exits with code 2; nothing below catches it.
    """
