"""docs/troubleshooting.md quotes messages as the program says them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_documents import ROOT, text_of

ROOMS = ("commands", "data", "models", "records", "report", "search_spaces", "tune")
QUOTED = re.findall(r"^\| `(.+?)` \|", text_of("docs/troubleshooting.md"), re.MULTILINE)
VALUE = "…"  # what differs from message to message


def strings(path: Path) -> Iterator[str]:
    """The texts in a module, as they are joined there, with `…` for each value."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            pieces = (p.value if isinstance(p, ast.Constant) else VALUE for p in node.values)
            yield "".join(map(str, pieces))


@pytest.fixture(scope="module")
def said() -> str:
    """Everything that the program may say."""
    modules = [
        *ROOT.glob("*.py"),
        *(path for room in ROOMS for path in (ROOT / room).rglob("*.py")),
    ]
    return "\n".join(text for module in modules for text in strings(module))


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message: str, said: str) -> None:
    assert message in said


def test_messages_are_found(said: str) -> None:
    """The check above looks at something, and not at everything."""
    assert len(QUOTED) > 20
    assert "no such message" not in said
