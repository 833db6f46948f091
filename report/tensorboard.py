"""Write a run's curves for TensorBoard: `python -m report.tensorboard results/digits`.

Every trial becomes one TensorBoard run, from its reports in `events.jsonl`; the step is samples
seen. The writer, tensorboardX, comes with Ray Tune. TensorBoard itself is another package.
"""

from __future__ import annotations

import itertools
import math
import shutil
import sys
from pathlib import Path

from errors import InputError
from records import TENSORBOARD, Cell, TrialReported, recorded
from report.command import read_events, run_command
from terminal import Terminal, say

SCALARS = ("val_accuracy", "val_loss", "train_loss", "prospect", "weight_distance")


def write_curves(run_dir: Path) -> Path:
    """Write the curves of all trials so far; they replace those of an earlier call.

    Raises:
        InputError: the folder has no journal or a damaged one, the run itself logs there, or no
            writer is installed.
    """
    events = read_events(run_dir)
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "no writer for TensorBoard is installed: pip install tensorboardX"
        ) from None
    curves: dict[tuple[Cell, int], list[TrialReported]] = {}
    for event in events:
        if isinstance(event, TrialReported):
            curves.setdefault((event.cell, event.trial), []).append(event)
    folder = run_dir / TENSORBOARD
    if TENSORBOARD in (recorded(run_dir).get("loggers") or ()):
        raise InputError(f"{folder} has what the run logged: tensorboard --logdir {folder}")
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
    """Write the curves and say how to see them."""

    def work(run_dir: Path) -> None:
        say(Terminal(), f"written; to see them: tensorboard --logdir {write_curves(run_dir)}")

    return run_command("report.tensorboard", __doc__, work)


if __name__ == "__main__":
    sys.exit(main())
