"""What a terminal shows: enough of its codes for what rich writes."""

from __future__ import annotations

import re

TOKENS = re.compile(r"\x1b\[(?P<count>[?\d;]*)(?P<code>[A-Za-z])|(?P<text>[^\x1b\r\n]+|[\r\n])")


def frames(output: str) -> list[list[str]]:
    """The lines that a terminal showed each time before a line was erased, and in the end."""
    shown: list[list[str]] = []
    lines, row, column = [""], 0, 0
    for token in TOKENS.finditer(output):
        match token["code"], token["text"]:
            case None, "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case None, "\r":
                column = 0
            case None, text:
                before = lines[row][:column].ljust(column)
                lines[row] = before + text + lines[row][column + len(text) :]
                column += len(text)
            case "A", _:
                row -= int(token["count"] or 1)
            case "K", _:
                shown.append(_visible(lines))
                lines[row] = ""
    return [*shown, _visible(lines)]


def _visible(lines: list[str]) -> list[str]:
    text = "\n".join(line.rstrip() for line in lines).rstrip("\n")
    return text.split("\n") if text else []
