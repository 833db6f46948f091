"""The test split takes no part in the search."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits

from tests.runs.helpers import events, run_quietly, small
from tune.run import Stages

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

Row = tuple[str, str, str]


def _write_scans(folder: Path) -> list[Row]:
    """Four kinds of digit as PNG files; returns the rows of their CSV, in their three splits."""
    from PIL import Image

    scans = load_digits(n_class=4)
    rows = []
    for i, (scan, label) in enumerate(zip(scans.images[:240], scans.target[:240], strict=True)):
        image = Image.fromarray((scan * 15).astype("uint8")).resize((24, 24))
        image.save(folder / f"{i}.png")
        rows.append((f"{i}.png", f"digit {label}", ("train", "train", "val", "test")[i % 4]))
    return rows


def _write_csv(folder: Path, rows: list[Row]) -> None:
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])


def _experiment(folder: Path, name: str) -> Any:
    return small(
        f"data.source=csv:{folder / 'images.csv'}",
        "data.partitions=[100]",
        "search.samples=150",
        "search.trials=4",
        "methods.llrd.space.blocks={choice: ['11', '11-9']}",
        "methods.llrd.default={}",
        "final.seeds=1",
        "search.asha.min_records=2",
        "resources.cpus_per_trial=2",  # of the session's two: one slot
        f"features.cache={folder / name}",
        name=name,
    )


def test_the_search_does_not_depend_on_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _write_scans(tmp_path)
    _write_csv(tmp_path, rows)
    run_quietly(_experiment(tmp_path, "whole"), tmp_path)

    # The same again, with the test images gone and their labels permuted until all winners are
    # fixed.
    tests = [row for row in rows if row[2] == "test"]
    labels = [row[1] for row in tests]
    random.Random(0).shuffle(labels)
    permuted = [(path, label, "test") for (path, *_), label in zip(tests, labels, strict=True)]
    _write_csv(tmp_path, [row for row in rows if row[2] != "test"] + permuted)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for path, *_ in tests:
        os.rename(tmp_path / path, hidden / path)
    score = Stages.score

    def with_images_back(self: Stages, winners: Any) -> None:
        for path, *_ in tests:
            os.rename(hidden / path, tmp_path / path)
        score(self, winners)

    monkeypatch.setattr(Stages, "score", with_images_back)
    run_quietly(_experiment(tmp_path, "blind"), tmp_path)

    whole = (tmp_path / "whole" / "best_configs.yaml").read_bytes()
    assert (tmp_path / "blind" / "best_configs.yaml").read_bytes() == whole
    assert len(events(tmp_path / "blind", "winner")) == 3
    # And the permuted labels were really what the winners were scored on.
    assert _mean_accuracy(tmp_path / "blind") < _mean_accuracy(tmp_path / "whole") - 0.2


def _mean_accuracy(run_dir: Path) -> float:
    with (run_dir / "accuracy_table.csv").open() as file:
        accuracies = [float(row["test_accuracy"]) for row in csv.DictReader(file)]
    return sum(accuracies) / len(accuracies)
