"""Everything that speed is claimed for, in one table: `make bench`.

    python -m benchmarks.bench [--only geometry]

Prints the table with the machine and versions above it. Ratios are of times within this run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.geometry import geometry_rows
from benchmarks.limits import describe, measured_machine
from benchmarks.table import HEADER


def main() -> None:
    machine = measured_machine()
    print(describe())
    print(
        f"- one core: {machine.flops / 1e9:.0f} GFLOP/s in float32 matrix products, "
        f"{machine.bandwidth / 1e9:.0f} GB/s copied\n"
    )
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        for row in geometry_rows(machine, Path(folder)):
            print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
