"""A seed decides everything, and the test split nothing of the search."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path
from typing import Any

import pytest

import tune.stages
from tests.runs.helpers import (
    events,
    run_quietly,
    scans,
    small,
    weights_of,
    without_cost,
    without_seconds,
    write_csv,
    write_images,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

Row = tuple[str, str, str]


def _write_scans(folder: Path) -> list[Row]:
    """Four kinds of digit as PNG files; returns the rows of their CSV, in their three splits."""
    images, labels = scans(240, classes=4)
    names = write_images(folder, images)
    splits = ("train", "train", "val", "test")
    return [(names[i], label, splits[i % 4]) for i, label in enumerate(labels)]


def _experiment(folder: Path, name: str) -> Any:
    return small(
        f"data.source=csv:{folder / 'images.csv'}",
        "data.partitions=[100]",
        "search.samples=150",
        "search.trials=4",
        "methods.llrd.space.blocks={choice: ['11', '11-9']}",
        "methods.llrd.default={}",
        "final.seeds=1",
        "resources.cpus_per_trial=2",  # of the session's two: one slot
        f"features.cache={folder / name}",
        name=name,
    )


@pytest.fixture(scope="module")
def whole(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, beside its images; tests only read it."""
    folder = tmp_path_factory.mktemp("scans")
    write_csv(folder / "images.csv", _write_scans(folder))
    run_quietly(_experiment(folder, "whole"), folder)
    return folder / "whole"


def test_with_one_slot_two_runs_of_a_seed_are_the_same(whole: Path) -> None:
    run_quietly(_experiment(whole.parent, "again"), whole.parent)
    again = whole.parent / "again"
    assert without_cost(again) == without_cost(whole)
    assert without_seconds(again) == without_seconds(whole)
    assert weights_of(again) == weights_of(whole)
    best = [(run_dir / "best_configs.yaml").read_bytes() for run_dir in (whole, again)]
    assert best[0] == best[1]


def test_the_search_does_not_depend_on_the_test_split(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test images are gone, and their labels permuted, until all winners are fixed."""
    rows = _write_scans(tmp_path)
    tests = [row for row in rows if row[2] == "test"]
    labels = [row[1] for row in tests]
    random.Random(0).shuffle(labels)
    permuted = [(path, label, "test") for (path, *_), label in zip(tests, labels, strict=True)]
    write_csv(tmp_path / "images.csv", [row for row in rows if row[2] != "test"] + permuted)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for path, *_ in tests:
        os.rename(tmp_path / path, hidden / path)
    make_test_features = tune.stages.make_test_features

    def with_images_back(*given: Any) -> Any:
        for path, *_ in tests:
            os.rename(hidden / path, tmp_path / path)
        return make_test_features(*given)

    monkeypatch.setattr(tune.stages, "make_test_features", with_images_back)
    run_quietly(_experiment(tmp_path, "blind"), tmp_path)

    best = [path / "best_configs.yaml" for path in (whole, tmp_path / "blind")]
    assert best[0].read_bytes() == best[1].read_bytes()
    assert len(events(tmp_path / "blind", "winner")) == 3
    # And the permuted labels were really what the winners were scored on.
    assert _mean_accuracy(tmp_path / "blind") < _mean_accuracy(whole) - 0.2


def _mean_accuracy(run_dir: Path) -> float:
    with (run_dir / "accuracy_table.csv").open() as file:
        accuracies = [float(row["test_accuracy"]) for row in csv.DictReader(file)]
    return sum(accuracies) / len(accuracies)
