"""The page that compares several runs: accuracy against images of each run's best methods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from files import replacing
from report.html.comparison import render_comparison
from report.run import Run


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Write the page that compares runs; return its path."""
    text = render_comparison(runs)
    with replacing(path) as file:
        file.write_text(text, encoding="utf-8")
    return path
