"""Read YAML files that people write, in YAML 1.2; a mistake in one is a line that says where.

In YAML 1.2, as in Python and unlike PyYAML, 1e-3 is a number and `no` is a word; a key that
stands twice is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from errors import InputError, one_line

# What ruamel.yaml lets through on a 13th month, a tag that does not fit its value, or deep nesting.
_CONSTRUCTION_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML into plain values.

    Raises:
        InputError: the text is not YAML; names `where` it comes from, line and column.
    """
    with _explained(where):
        return YAML(typ="safe", pure=True).load(text)


def read_nodes(text: str, where: str) -> Any:
    """Parse YAML into ruamel.yaml's nodes, which keep line numbers and text as it is written."""
    with _explained(where):
        return YAML(typ="safe", pure=True).compose(text)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{where}:{place}: not YAML: {one_line(error.problem)}") from None
    except YAMLError as error:
        raise InputError(f"{where}: not YAML: {one_line(error)}") from None
    except _CONSTRUCTION_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{where}: not YAML: a value cannot be read ({reason})") from None
