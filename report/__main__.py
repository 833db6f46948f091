"""Rewrite the report of a run from its files: `python -m report results/digits`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from errors import InputError
from report.write import write_report


def main() -> int:
    """Write the report and print it; exit code 2 means that the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m report", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a run's directory, such as results/digits")
    try:
        write_report(parser.parse_args().run_dir).render(Console())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
