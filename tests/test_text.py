"""Text from outside stays text: on terminals, in Markdown, in spreadsheets, in the plot."""

from __future__ import annotations

import ast
import csv
import io
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from errors import JOINERS, NOT_SHOWN, one_line
from records import SKIPPED, TEST_IMAGES
from records.tables import ListedImage
from terminal import Terminal, say
from text import cell, cell_text, markdown
from tune.features.stage import Skipped

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ["data", "models", "records", "report", "search_spaces", "tune"]
SOURCES = sorted([*ROOT.glob("*.py"), *(f for room in ROOMS for f in (ROOT / room).rglob("*.py"))])
HOSTILE = [
    "x[/old] [red]photos[/red] :smile:",
    "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe",
    "a\n## Injected\r\n- b\u2028c",
    "![x](http://evil) <script>alert(1)</script> `code` **b** _i_ ~~s~~ | # www.evil.com a@b.com",
    "cost_$5_$ \\frac{1}{0}",
    "&lt;b&gt; \\* 1. x",
    "=cmd|'/c calc'!A0",
    "\udcff undecodable",
]


def shown(text: str, **settings: object) -> str:
    file = io.StringIO()
    say(Terminal(file=file, **settings), text)
    return file.getvalue()


# Terminals


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_shows_it_as_one_line_without_commands(text: str) -> None:
    output = shown(text, force_terminal=True, color_system=None, width=40)
    assert output.endswith("\n")
    line = output[:-1]
    assert line.isprintable()
    assert line == one_line(text)
    for word in ("[/old]", "[red]photos[/red]", ":smile:", r"\x1b[2J", "<script>"):
        assert (word in line) == (word in text or word in text.replace("\x1b", r"\x1b"))


@given(st.text())
def test_one_line_is_printable_and_its_own_line(text: str) -> None:
    line = one_line(text, 50)
    assert not [c for c in line if unicodedata.category(c) in NOT_SHOWN and c not in JOINERS]
    assert one_line(line, 1000) == line
    assert not line.splitlines() or len(line.splitlines()) == 1


ALONE = ROOT / "models" / "package" / "predict.py"
"""Goes along with exported models, where it has no `say`."""


def calls(path: Path) -> list[ast.Call]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_one_module_makes_consoles_and_none_prints_markup(path: Path) -> None:
    if path.name != "terminal.py":
        assert not re.search(r"rich\.markup|markup=", path.read_text())
    if path == ALONE:
        return
    for call in calls(path):
        name = ast.unparse(call.func)
        assert name not in ("Console", "print", "rich.print"), f"line {call.lineno}: use say"
        if name.endswith("console.print"):  # objects of rich; a text goes through `say`
            first = call.args[0]
            assert not isinstance(first, ast.JoinedStr | ast.Constant), f"line {call.lineno}"


# Markdown


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("around", ["- {}", "# {}", "| a |\n|---|\n| {} |"])
def test_markdown_shows_it_as_it_is(text: str, around: str) -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(around.format(markdown(text)))
    inline = [token for token in tokens if token.type == "inline"][-1]
    assert {child.type for child in inline.children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in inline.children or []) == one_line(text)
    assert sum(token.type in ("heading_open", "list_item_open") for token in tokens) < 2


@pytest.mark.parametrize("text", ["10/layer_norm", "-0.4 ± 1.3", "77.0 ± 2.5", "a (b.csv): 5%, c"])
def test_what_we_write_ourselves_needs_no_escape(text: str) -> None:
    assert markdown(text) == text


# Spreadsheets

KEYS = ["=1+1.png", "+a", "-b", "@c", "\td", "\re", "'=f", "''g", "'h", "plain.png", 'a,\n"b"']


def test_no_cell_begins_a_formula_and_all_are_read_back(tmp_path: Path) -> None:
    images = [ListedImage("test", key, 1, f"{key}g") for key in KEYS]
    TEST_IMAGES.write(tmp_path, images)
    SKIPPED.write(tmp_path, [Skipped("train", key, "-inf") for key in KEYS])
    for table in (TEST_IMAGES, SKIPPED):
        with (tmp_path / table.file).open(newline="") as file:
            written = [text for row in csv.reader(file) for text in row]
        assert not [text for text in written if text[:1] in set("=+-@\t\r")]
        assert list(table.read(tmp_path)["key"]) == KEYS
    assert list(TEST_IMAGES.read(tmp_path)["group"]) == [f"{key}g" for key in KEYS]


@given(st.text(alphabet="'=+-@\t\ra") | st.text())
def test_a_cell_is_read_back(text: str) -> None:
    assert cell_text(cell(text)) == text
    assert cell(text)[:1] not in {*"=+-@\t\r"}
