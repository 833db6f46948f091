"""Text from outside in files for people: as Markdown, and in a spreadsheet's cells."""

from __future__ import annotations

import re

from errors import one_line

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MARKDOWN = re.compile(
    r"[\\`*\[\]{}<>|#!~$@]"  # emphasis, code, links, HTML, tables, headings, formulas, mentions
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # inside a word, as in layer_norm, it is a letter
    r"|:(?=[\w/+-])|(?<=www)\."  # addresses and emoji
    r"|&(?=#?\w+;)"
    r"|^[-+](?=[\s-]|$)|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)"  # what begins a list or a line
)


def markdown(text: str) -> str:
    r"""Write a text in a line of Markdown, so that it is shown as it is.

    >>> markdown("10/layer_norm: <b>![x](http://y)")
    '10/layer_norm: \\<b\\>\\!\\[x\\](http\\://y)'
    """
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text, len(text)))


def cell(text: str) -> str:
    r"""Write a text in a cell of a CSV file, where no spreadsheet takes it for a formula.

    An apostrophe before =, +, -, @, tab or carriage return marks text; so it is also doubled there.

    >>> cell("=1+1.png"), cell("'=1"), cell("cat.png")
    ("'=1+1.png", "''=1", 'cat.png')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(written: str) -> str:
    """Return the text that `cell` wrote."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written) else written
