"""Rewrite the report of a run from its files: `python -m report results/digits`."""

from __future__ import annotations

import sys

from report.command import run_command
from report.write import write_report
from terminal import Terminal


def main() -> int:
    """Write the report and print it."""
    return run_command("report", __doc__, lambda folder: write_report(folder).render(Terminal()))


if __name__ == "__main__":
    sys.exit(main())
