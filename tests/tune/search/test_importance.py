"""Which settings mattered, on scores that follow from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from records import Cell
from tests.tune.search.simulated import FROZEN, Scorer, Simulation, experiment
from tune.search.importance import BEST, MIN_TRIALS, Importance, importances

LLRD = {
    "space": {
        "blocks": {"choice": ["11-7", "11", "all"]},
        "llrd_decay": {"uniform": [0.5, 1.0], "when": {"blocks": ["11-7", "all"]}, "otherwise": 1},
        "lr": {"loguniform": [1e-4, 1e-2]},
        "warmup": {"uniform": [0.0, 0.5]},
    }
}

BLOCKS = {"11": 0.3, "11-7": 0.5, "all": 0.1, "none": 0.0}


def rows(tmp_path: Path, scorer: Scorer, trials: int = 40, **search: Any) -> list[Importance]:
    methods = {"frozen": FROZEN, "llrd": LLRD}
    spec = experiment(methods=methods, trials=trials, **{"transfer": 0, **search})
    tmp_path.mkdir(exist_ok=True)
    simulation = Simulation(spec, tmp_path / "events.jsonl", scorer).run()
    return list(importances(spec, simulation.search.cells))


def by(name: str) -> Scorer:
    """Scores that depend on one parameter of `llrd` alone."""

    def score(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
        value = config.get(name, 0.0)
        return BLOCKS[value] if name == "blocks" else float(value)

    return score


@pytest.mark.parametrize("name", ["blocks", "lr", "warmup", "llrd_decay"])
def test_what_alone_decides_comes_out_first(name: str, tmp_path: Path) -> None:
    found = rows(tmp_path, by(name))
    for partition in ("1", "100", "all"):
        cell = [row for row in found if (row.partition, row.method) == (partition, "llrd")]
        assert {row.parameter for row in cell} == LLRD["space"].keys()  # conditional ones too
        assert max(cell, key=lambda row: row.importance).parameter == name
        assert sum(row.importance for row in cell) == pytest.approx(1, abs=1e-3)
        counts = {row.parameter: row.trials for row in cell}
        assert counts.pop("llrd_decay") < counts["blocks"]  # of those that sampled it
        assert set(counts.values()) == {78 if partition == "all" else 39}  # not the default


def test_stopping_trials_hides_nothing(tmp_path: Path) -> None:
    for scheduler in ("asha", "hyperband", "none"):
        found = rows(tmp_path / scheduler, by("warmup"), scheduler=scheduler)
        assert max(found, key=lambda row: row.importance).parameter == "warmup"


def test_groups_with_few_trials_have_none_but_count_in_all(tmp_path: Path) -> None:
    found = rows(tmp_path, by("lr"), trials=MIN_TRIALS)  # the default is one of them
    assert {(row.partition, row.method) for row in found} == {("all", "llrd")}
    assert max(row.trials for row in found) == 2 * (MIN_TRIALS - 1)
    assert rows(tmp_path / "enough", by("lr"), trials=MIN_TRIALS + 1)[0].partition == "1"


@pytest.mark.parametrize(
    "space",
    [
        {"blocks": "none", "label_smoothing": {"uniform": [0.0, 0.2]}},
        # Of two that are searched one never varies: with it, too, there is nothing to compare.
        {
            "blocks": "none",
            "label_smoothing": {"uniform": [0.0, 0.2]},
            "batch_size": {"choice": [64]},
        },
    ],
)
def test_a_parameter_alone_has_nothing_to_be_compared_with(
    tmp_path: Path, space: Mapping[str, Any]
) -> None:
    methods = {"frozen": {"space": space, "trials": 40}}
    spec = experiment(methods=methods, scheduler="none")
    scorer = by("label_smoothing")
    simulation = Simulation(spec, tmp_path / "events.jsonl", scorer).run()
    assert all(len(cell.trials) == 40 for cell in simulation.search.cells.values())
    assert list(importances(spec, simulation.search.cells)) == []


def test_five_trials_are_among_the_best() -> None:
    """As many as Optuna's documentation asks for."""
    assert round(BEST * MIN_TRIALS, 6) == 5


def test_what_smaller_partitions_proposed_takes_no_part(tmp_path: Path) -> None:
    found = rows(tmp_path, by("lr"), transfer=3)
    counts = {row.partition: row.trials for row in found if row.parameter == "lr"}
    assert counts["1"] == 39
    assert counts["100"] < 39


def test_levels_of_partitions_are_no_importance(tmp_path: Path) -> None:
    """Over all partitions trials are ranked within their own: else the better one's win."""

    def score(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
        return float(cell.partition + config.get("warmup", 0.0))

    pooled = [row for row in rows(tmp_path, score) if row.partition == "all"]
    assert max(pooled, key=lambda row: row.importance).parameter == "warmup"


def test_where_all_scores_are_the_same_nothing_mattered(tmp_path: Path) -> None:
    assert rows(tmp_path, lambda *_: 0.5, scheduler="none") == []


def test_what_diverges_counts_as_worst(tmp_path: Path) -> None:
    def score(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
        return float("nan") if config.get("warmup", 0) > 0.25 else 0.5

    cell = [row for row in rows(tmp_path, score) if (row.partition, row.method) == ("1", "llrd")]
    assert cell[0].trials == 39
    assert max(cell, key=lambda row: row.importance).parameter == "warmup"
