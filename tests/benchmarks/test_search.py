"""`benchmarks/search.py` plays the real search on a table that is made up here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import GRID, STRATEGIES, Race, Table, play, reached, reached_interval
from models.results import score

ROOT = Path(__file__).resolve().parents[2]
SPACE = {
    "blocks": {"choice": ["11", "10"]},
    "head_start": "zeros",
    "lr": {"loguniform": [1e-4, 1e-2]},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rates = np.geomspace(1e-4, 1e-2, 12)
    configs = [
        {"blocks": ("11", "10")[i % 2], "head_start": "zeros", "lr": float(rate)}
        for i, rate in enumerate([1e-3, *rates])
    ]
    points = [10, 30, 60, 90]
    curves = {
        p: [
            [[0.5 + 0.02 * i * point / 90, 1.0, 0.9] for point in points]
            for i in range(len(configs))
        ]
        for p in ("1", "100")
    }
    table = {
        "name": "made-up",
        "horizon": 90,
        "points": points,
        "n_val": 100,
        "configs": configs,
        "space": SPACE,
        "default": {"lr": 1e-3},
        "partitions": [1, 100],
        "images": {"1": 5, "100": 500},
        "curves": curves,
    }
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    return path


def test_between_points_a_curve_is_a_line(path: Path) -> None:
    table = Table(path)
    config = table.configs[3]
    accuracy, rank, prospect = table.at(1, config, 45)
    assert accuracy == pytest.approx(0.53)
    assert rank == pytest.approx(score(0.53, 1.0, 100))
    assert prospect == pytest.approx(0.9)


def test_a_proposal_becomes_the_nearest_that_was_not_tried(path: Path) -> None:
    table = Table(path)
    configs = table.configs
    assert table.nearest(configs[4], []) == configs[4]
    assert table.nearest(configs[4], [configs[4]]) == configs[6]  # the same blocks
    assert table.nearest(configs[4], configs) == configs[4]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_share_the_first_trial_and_courses_rise(path: Path, strategy: str) -> None:
    course, spent = play(path, strategy, 6, 2, seed=1)
    known = course[~np.isnan(course)]
    assert (np.diff(known) >= 0).all()
    assert known[0] >= 0.5
    assert 1 <= spent <= 6 + 1e-9
    assert (spent == pytest.approx(6)) == (STRATEGIES[strategy].get("scheduler") == "none")


def test_compute_is_what_was_trained(path: Path) -> None:
    table = Table(path)
    race = Race(table, table.experiment(6, 0, {}), slots=3)
    race.run()
    trained = sum(
        t.samples
        for g, s in race.search.cells.items()
        if g.method == "method"
        for t in s.trials.values()
    )
    assert race.course[-1][0] == pytest.approx(trained / 180)


def test_when_a_goal_is_reached() -> None:
    courses = np.tile(GRID, (3, 1))
    half, double = courses / 2, courses * 2
    assert reached(courses, half) == pytest.approx(0.5)
    assert reached(courses, double) == np.inf
    late = np.where(GRID < 0.7, np.nan, courses)  # nothing is reached before it has begun
    assert reached(late, half) == pytest.approx(0.7)
    assert reached_interval(courses, half) == "50.0% (50.0% to 50.0%)"
    assert reached_interval(courses, double) == "never (never to never)"


@pytest.mark.parametrize("table", sorted((ROOT / "benchmarks" / "curves").glob("*.json")))
def test_the_tables_that_ship_can_be_played(table: Path) -> None:
    content = Table(table)
    assert set(content.images) == set(content.partitions)
    for partition in content.partitions:
        for config in content.configs:
            content.at(partition, config, content.horizon)
    course, spent = play(table, "ours", trials=4, slots=2, seed=0)
    assert 0 < spent <= 4
    assert np.nanmax(course) <= content.best
