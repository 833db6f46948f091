"""Rewrite the report of a run from its files: `python -m report results/digits`."""

from __future__ import annotations

import sys
from pathlib import Path

from report.command import run_command
from report.write import write_report
from terminal import Terminal


def main() -> int:
    """Write the report and print it."""
    return run_command("report", __doc__, _report)


def _report(folder: Path) -> list[str]:
    summary = write_report(folder)
    summary.render(Terminal())
    return summary.missing


if __name__ == "__main__":
    sys.exit(main())
