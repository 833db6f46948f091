"""Measure the speed beside what users do today, in one table: `make bench`.

    python -m benchmarks.bench
    python -m benchmarks.bench --photos …/labels.csv --encoder …/vit_tiny    # more rows

It prints the machine and the versions, then the table; on two cores it takes about 35 minutes.
Ratios compare times of the same run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.end_to_end import end_to_end_rows
from benchmarks.geometry import geometry_rows
from benchmarks.limits import Machine, describe, measured_machine
from benchmarks.table import HEADER, Row

DIGITS = Path(__file__).resolve().parents[1] / "search_spaces" / "digits_all.yaml"
GROCERY = Path(__file__).with_name("grocery.yaml")


def rows(machine: Machine, photos: Path | None, encoder: Path | None) -> Iterator[Row]:
    """Measure row after row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        yield from geometry_rows(machine, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        yield from end_to_end_rows("digits, all methods", DIGITS, [], Path(folder))
    if photos and encoder:
        settings = [
            f"data.source=csv:{photos}",
            f"model.name=local-dir:{encoder}",
            "data.columns.label=coarse",
            "data.partitions=[10]",
            "model.precision=float32",  # as the peer's
            "search.samples=1000",
            "search.trials=4",
            "final.seeds=2",
        ]
        with tempfile.TemporaryDirectory() as folder:
            yield from end_to_end_rows("grocery photos at 10%", GROCERY, settings, Path(folder))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="labels.csv of the Grocery Store Dataset")
    parser.add_argument("--encoder", type=Path, help="folder of a ViT-Tiny for open_clip")
    arguments = parser.parse_args()
    machine = measured_machine()
    print(describe())
    print(
        f"- one core: {machine.flops / 1e9:.0f} GFLOP/s in float32 matrix products, "
        f"{machine.bandwidth / 1e9:.0f} GB/s copied\n"
    )
    print(HEADER)
    for row in rows(machine, arguments.photos, arguments.encoder):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
