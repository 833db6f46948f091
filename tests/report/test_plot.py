"""The picture: always made, always of one size."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import rc_context
from matplotlib.image import imread

from report import write_report
from report.plot import _apart
from tests.report.run_writer import RunWriter


def size(path: Path) -> tuple[int, ...]:
    return tuple(imread(path).shape[:2])


def test_size_with_missing_points(finished: RunWriter) -> None:
    write_report(finished.run_dir)
    assert size(finished.run_dir / "accuracy.png") == (750, 1200)


@pytest.mark.parametrize("partitions", [[10], [100, 1], [10, 20, 50], [0.5, 1, 10, 100]])
def test_any_partitions(finished: RunWriter, partitions: list[float]) -> None:
    finished.experiment(["frozen", "llrd"], partitions)
    write_report(finished.run_dir)
    assert size(finished.run_dir / "accuracy.png") == (750, 1200)


def test_shots_are_drawn_at_their_images(finished: RunWriter) -> None:
    finished.experiment(["frozen", "llrd"], [], data={"partitions": [1, 10], "shots": [2, 9]})
    write_report(finished.run_dir)  # the shots have no fits yet
    assert size(finished.run_dir / "accuracy.png") == (750, 1200)


def test_no_matplotlibrc_changes_it(finished: RunWriter) -> None:
    """Matplotlib reads one in the current folder, whoever may have put it there."""
    with rc_context({"savefig.bbox": "tight", "text.usetex": True, "axes.facecolor": "red"}):
        write_report(finished.run_dir)
    found = (finished.run_dir / "accuracy.png").read_bytes()
    write_report(finished.run_dir)
    assert (finished.run_dir / "accuracy.png").read_bytes() == found


def test_crowded_partitions_share_labels_and_the_last_keeps_its_own() -> None:
    assert _apart([0.1, 0.5, 0.87, 0.9]) == [0, 1, 3]
    assert _apart([0.3]) == [0]
