"""Read YAML files that people write, in YAML 1.2; a mistake in one is a line that says where.

In YAML 1.2, as in Python and unlike PyYAML, 1e-3 is a number and `no` is a word; a key that
stands twice is a mistake. Limits keep a file from taking the machine's time or memory: a few
aliases may stand for billions of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.scanner import Scanner

from errors import InputError, one_line

NODES = 10_000  # keys and values of a file, those that aliases repeat included
CHARACTERS = 100  # of the text for each of these
DEPTH = 40
DIGITS = 20  # of an integer, which 64 bits need

# What ruamel.yaml lets through on a 13th month, a tag that does not fit its value, or deep nesting.
_CONSTRUCTION_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


class _TooMuchError(MarkedYAMLError):
    """YAML beyond one of the limits."""


class _Scanner(Scanner):
    """A scanner that stops at deep brackets itself: it looks far ahead, at each level again."""

    def fetch_flow_collection_start(self, *arguments: Any, **named: Any) -> None:
        if self.flow_level > DEPTH:
            reason = f"more than {DEPTH} levels deep"
            raise _TooMuchError(None, None, reason, self.reader.get_mark())
        super().fetch_flow_collection_start(*arguments, **named)


class _Composer(Composer):
    """A composer that counts nodes, and an alias as all that it stands for."""

    def __init__(self, loader: Any = None, *, most: int = NODES) -> None:
        super().__init__(loader)
        self.most, self.nodes = most, 0
        self.sizes: dict[Any, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, unless there are too many."""
        event, before = self.parser.peek_event(), self.nodes
        if isinstance(event, AliasEvent):
            node = super().compose_node(parent, index)
            if node not in self.sizes:
                self._refuse(f"*{event.anchor} holds itself", event)
            self.nodes += self.sizes[node]
        else:
            self.nodes += 1
            node = None
        if self.nodes > self.most:
            self._refuse(f"more than {self.most} keys and values, with what aliases repeat", event)
        if node is None:
            node = super().compose_node(parent, index)
            self.sizes[node] = self.nodes - before
        return node

    def _refuse(self, reason: str, event: Any) -> NoReturn:
        raise _TooMuchError(None, None, reason, event.start_mark)


class _Constructor(SafeConstructor):
    def construct_yaml_int(self, node: Any) -> int:
        if len(str(node.value)) > DIGITS:
            reason = f"an integer of more than {DIGITS} digits"
            raise _TooMuchError(None, None, reason, node.start_mark)
        return super().construct_yaml_int(node)


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)


def text_of(path: Path, nodes: int = NODES) -> str:
    """Read a file of YAML, but no more of one that is too long than shows this.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    with path.open(encoding="utf-8") as file:
        return file.read(nodes * CHARACTERS + 1)


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML into plain values.

    Raises:
        InputError: the text is not YAML, or beyond a limit; names `where` it comes from, line and
            column.
    """
    with _explained(where):
        return _yaml(text, where, NODES).load(text)


def read_nodes(text: str, where: str, nodes: int = NODES) -> Any:
    """Parse YAML into ruamel.yaml's nodes, which keep line numbers and text as it is written."""
    with _explained(where):
        return _yaml(text, where, nodes).compose(text)


def _yaml(text: str, where: str, nodes: int) -> YAML:
    if len(text) > nodes * CHARACTERS:
        raise InputError(f"{where}: more than {nodes * CHARACTERS} characters")
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = DEPTH
    yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
    yaml.Composer = partial(_Composer, most=nodes)  # type: ignore[assignment]
    return yaml


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}: line {mark.line + 1}, column {mark.column + 1}" if mark else where
        if isinstance(error, MaxDepthExceededError):
            raise InputError(f"{place}: more than {DEPTH} levels deep") from None
        if isinstance(error, _TooMuchError):
            raise InputError(f"{place}: {error.problem}") from None
        raise InputError(f"{place}: not YAML: {one_line(error.problem)}") from None
    except InputError:
        raise
    except YAMLError as error:
        raise InputError(f"{where}: not YAML: {one_line(error)}") from None
    except _CONSTRUCTION_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{where}: not YAML: a value cannot be read ({reason})") from None
