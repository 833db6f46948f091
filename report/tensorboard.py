"""Write a run's curves for TensorBoard: `python -m report.tensorboard results/digits`.

Every trial becomes one TensorBoard run, from its reports in `events.jsonl`; the step is samples
seen. The writer, tensorboardX, comes with Ray Tune. TensorBoard itself is another package.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import sys
from pathlib import Path

from errors import InputError
from records import JOURNAL, Cell, TrialReported, read_journal

FOLDER = "tensorboard"
SCALARS = ("val_accuracy", "val_loss", "train_loss", "prospect", "weight_distance")


def write_curves(run_dir: Path) -> Path:
    """Write the curves of all trials so far; they replace those of an earlier call.

    Raises:
        InputError: the folder has no journal or a damaged one, or no writer is installed.
    """
    journal = run_dir / JOURNAL
    if not journal.exists():
        raise InputError(f"{run_dir} holds no run: it has no {journal.name}")
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "no writer for TensorBoard is installed: pip install tensorboardX"
        ) from None
    curves: dict[tuple[Cell, int], list[TrialReported]] = {}
    for event in read_journal(journal):
        if isinstance(event, TrialReported):
            curves.setdefault((event.cell, event.trial), []).append(event)
    folder = run_dir / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for (cell, trial), curve in curves.items():
        with SummaryWriter(str(folder / str(cell) / str(trial))) as writer:
            for event, name in itertools.product(curve, SCALARS):
                value = getattr(event.report, name)
                if math.isfinite(value):
                    writer.add_scalar(name, value, event.report.samples, event.time)
    return folder


def main() -> int:
    """Write the curves and say how to see them; exit code 2 means that the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m report.tensorboard", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a run's directory, such as results/digits")
    try:
        folder = write_curves(parser.parse_args().run_dir)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written; to see them: tensorboard --logdir {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
