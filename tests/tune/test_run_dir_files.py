"""What a run leaves in its directory: winners, lists and tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data import Duplicate, Split
from records import DUPLICATES, IMPORTANCE, Cell, Winner
from search_spaces import parse_space
from tests.tune.search.simulated import FIXED, FROZEN, LLRD, ZEROS, Simulation, experiment
from tune.features.stage import Skipped
from tune.run_dir import RunDirectory
from tune.search.importance import Importance
from yaml_files import read_yaml


def read_best(path: Path) -> Any:
    return yaml.safe_load((path / "best_configs.yaml").read_text())


def winner(partition: float, method: str, **config: Any) -> Winner:
    return Winner(Cell(partition, method), 3, 2 / 3, 90, "tuned", config, config, None)


def write(path: Path, *winners: Winner) -> Any:
    RunDirectory(path, True).write_winners({w.cell: w for w in winners}, "frozen")
    return read_best(path)


def test_winners_are_told_with_the_probe_they_start_from(tmp_path: Path) -> None:
    tuned = {"blocks": "11", "lr": 1e-5}
    best = write(
        tmp_path,
        winner(1, "frozen", blocks="none", head_lr=(1e-3,)),
        winner(1, "implied", **tuned),
        winner(1, "named", head_start="probe", **tuned),
        winner(12.5, "zeros", head_start="zeros", **tuned),
        winner(12.5, "none", blocks="none", head_start="probe"),
    )
    assert best["1"]["frozen"] == {
        "val_accuracy": 0.666667,
        "trial": 3,
        "samples": 90,
        "config": {"blocks": "none", "head_lr": [1e-3]},
    }
    assert {
        (partition, method): entry.get("starts_from")
        for partition, entries in best.items()
        for method, entry in entries.items()
    } == {
        ("1", "frozen"): None,
        ("1", "implied"): "frozen",
        ("1", "named"): "frozen",
        ("12.5", "zeros"): None,
        ("12.5", "none"): None,
    }


def test_the_best_method_of_a_partition_stands_first_with_its_configuration(tmp_path: Path) -> None:
    winners = {
        w.cell: w for w in (winner(1, "a", blocks="11"), winner(1, "b", blocks="11-7", lr=1e-5))
    }
    RunDirectory(tmp_path, True).write_winners(winners, None, {1.0: "b"})
    row = read_best(tmp_path)["1"]
    assert list(row) == ["best", "a", "b"]
    assert row["best"] == {"method": "b", **row["b"]}
    assert "&" not in (tmp_path / "best_configs.yaml").read_text()  # no YAML aliases


@pytest.mark.parametrize("method", [FROZEN, LLRD, FIXED, ZEROS], ids=["bank", "llrd", "fix", "0"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_best_configs_are_spaces(
    tmp_path_factory: pytest.TempPathFactory, method: dict[str, Any], seed: int
) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    config = parse_space(method["space"], {}).suggest(study.ask())
    path = tmp_path_factory.mktemp("run")
    (entry,) = write(path, winner(1, "m", **config))["1"].values()
    assert parse_space(entry["config"], {}).fixed == config
    # and by the project's own reader of YAML, too
    text = (path / "best_configs.yaml").read_text()
    assert read_yaml(text, "here")["1"]["m"]["config"] == entry["config"]


def test_best_configs_of_a_search_make_an_experiment(tmp_path: Path) -> None:
    simulation = Simulation(experiment(), tmp_path / "a.jsonl").run()
    winners = simulation.search.winners()
    RunDirectory(tmp_path, True).write_winners(winners, "frozen")
    entries = read_best(tmp_path)["100"]
    methods = {method: {"space": entry["config"]} for method, entry in entries.items()}
    fixed = experiment(methods=methods)
    for method in methods:
        assert fixed.methods[method].parsed.first() == winners[Cell(100, method)].config


def test_the_same_winners_are_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        simulation = Simulation(experiment(), tmp_path / f"{name}.jsonl").run()
        for resumed in (simulation, Simulation(experiment(), tmp_path / f"{name}.jsonl")):
            folder = tmp_path / f"{name}{len(files)}"
            RunDirectory(folder, True).write_winners(resumed.search.winners(), "frozen")
            files.append((folder / "best_configs.yaml").read_bytes())
    assert len(set(files)) == 1


def test_skipped_images_are_listed_and_a_stale_list_removed(tmp_path: Path) -> None:
    directory, file = RunDirectory(tmp_path, True), tmp_path / "skipped_images.csv"
    directory.write_skipped([], ["train", "val"])
    assert not file.exists()
    directory.write_skipped([Skipped("train", "a, b.png", 'not\na "picture"')], ["train", "val"])
    with file.open(newline="") as lines:
        assert list(csv.reader(lines)) == [
            ["split", "key", "reason"],
            ["train", "a, b.png", 'not\na "picture"'],
        ]
    directory.write_skipped([Skipped("test", "t.png", "cut short")], ["test"])
    directory.write_skipped([], ["train", "val"])  # those of test are kept
    assert file.read_text().splitlines() == ["split,key,reason", "test,t.png,cut short"]
    directory.write_skipped([], ["test"])
    assert not file.exists()


def rows_of(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def test_tables_are_written_and_stale_ones_removed(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, True)
    images = ("near", "train", "a, b.png", "test", "ü.png")
    DUPLICATES.write(directory.path, [Duplicate(*images, "a|b", "c")])
    IMPORTANCE.write(directory.path, [Importance("10", "llrd", "lr", 1.0, 9)])
    test, phone = Split(("a\nb", "c"), np.array([1, 0])), Split(("d",), np.array([1]))
    directory.write_test_images({"test": test, "phone": phone}, ["10", "9"])
    assert rows_of(tmp_path / "duplicates.csv") == [
        ["kind", "split_a", "key_a", "split_b", "key_b", "class_a", "class_b"],
        ["near", "train", "a, b.png", "test", "ü.png", "a|b", "c"],
    ]
    assert rows_of(tmp_path / "importance.csv") == [
        ["partition", "method", "parameter", "importance", "trials"],
        ["10", "llrd", "lr", "1.0", "9"],
    ]
    assert rows_of(tmp_path / "test_images.csv") == [
        ["set", "key", "label", "class_name"],
        ["test", "a\nb", "1", "9"],
        ["test", "c", "0", "10"],
        ["phone", "d", "1", "9"],
    ]
    DUPLICATES.write(directory.path, [])
    IMPORTANCE.write(directory.path, [])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"test_images.csv", "duplicates.csv"}  # somebody looked, and found none


def test_images_are_counted_by_class_and_split(tmp_path: Path) -> None:
    def split(*labels: int) -> Split:
        return Split(tuple(map(str, range(len(labels)))), np.array(labels))

    splits = {"train": split(0, 0, 2), "val": split(1), "test": split(1, 0), "phone": split(2)}
    RunDirectory(tmp_path, True).write_classes(splits, ["a, b", "10", "c"])
    assert rows_of(tmp_path / "classes.csv") == [
        ["label", "train", "val", "test"],
        ["a, b", "2", "0", "1"],
        ["10", "0", "1", "1"],
        ["c", "1", "0", "0"],
    ]


def test_test_images_are_written_with_their_groups_where_a_set_has_some(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, True)
    test = Split(("a", "b", "c"), np.array([1, 0, 0]), ("x, 1", "y", "x, 1"))
    directory.write_test_images({"test": test, "phone": Split(("d",), np.array([1]))}, "xy")
    assert rows_of(tmp_path / "test_images.csv") == [
        ["set", "key", "label", "group", "class_name"],
        ["test", "a", "1", "x, 1", "y"],
        ["test", "b", "0", "y", "x"],
        ["test", "c", "0", "x, 1", "x"],
        ["phone", "d", "1", "", "y"],
    ]
