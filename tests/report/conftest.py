"""Runs whose every number can be checked by eye."""

from __future__ import annotations

from pathlib import Path

import pytest

from records import Footnote
from tests.report.run_writer import PROBE, TUNED, RunWriter


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    """A run's directory with nothing but its folders."""
    return RunWriter(tmp_path / "digits")


@pytest.fixture
def finished(writer: RunWriter) -> RunWriter:
    """A small finished run.

    At 1% llrd has the best validation but loses to frozen on test; at 10% it wins on both;
    seed_llrd has no result at 10%.
    """
    writer.experiment(["frozen", "llrd", "seed_llrd"], [1, 10])
    for cell in ("1/frozen", "1/llrd", "1/seed_llrd", "10/frozen", "10/llrd"):
        writer.trial(cell, 0, [0.5, 0.7, 0.6])
    writer.trial("10/llrd", 1, [0.3], status="stopped")
    writer.trial("10/llrd", 2, [], status="failed")
    writer.winner("1/frozen", 0.75, PROBE)
    writer.winner("1/llrd", 0.78, TUNED)
    writer.winner("1/seed_llrd", 0.70, {**TUNED, "blocks": "all", "kinds": "ln"})
    writer.winner("10/frozen", 0.91, PROBE)
    writer.winner("10/llrd", 0.94, {**TUNED, "llrd_decay": 0.9})
    writer.final_fits("1/frozen", [0.76, 0.77, 0.78])
    writer.final_fits("1/llrd", [0.75, 0.77, 0.76])
    writer.final_fits("1/seed_llrd", [0.70])
    writer.final_fits("10/frozen", [0.90, 0.91, 0.92])
    writer.final_fits("10/llrd", [0.93, 0.94, 0.95], weight_distance=0.084)
    for text in ("pack: 2 images are twins", "pack: 2 images are twins", "budget was short"):
        writer.event(Footnote(text))
    (writer.run_dir / "skipped_images.csv").write_text(
        'split,key,reason\ntrain,a.png,"truncated\nfile"\ntest,b.png,not an image\n'
    )
    return writer
