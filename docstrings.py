"""What docstrings say of a class: in their first line, and under `Attributes:`."""

from __future__ import annotations

import inspect
import re


def summary(kind: type) -> str:
    """Return the first line of a class's docstring; empty if it has none."""
    return (inspect.cleandoc(kind.__doc__ or "").splitlines() or [""])[0]


def attributes(kind: type) -> dict[str, str]:
    """Return what the docstrings of a class and its parents say of its attributes, by name."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        text = inspect.cleandoc(parent.__doc__ or "").partition("Attributes:")[2]
        for names, meaning in re.findall(r"^ {4}([\w, ]+): ((?:.|\n {8})+)", text, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found
