"""A whole small run, in this process: what it leaves, and what a second one repeats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.runs.helpers import events, run_quietly, small
from tune.experiment import MethodConfig

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
COLUMNS = (
    "partition,method,n_train,n_val,val_accuracy,test_accuracy,test_ci95,seeds,trials,"
    "trials_stopped_early,config"
)


@pytest.fixture(scope="module")
def results(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; tests only read it."""
    out = tmp_path_factory.mktemp("results")
    run_quietly(small(), out)
    return out / "small"


def test_every_promised_file_is_there(results: Path) -> None:
    promised = ("accuracy_table.md", "accuracy_table.csv", "accuracy.png", "trials.csv")
    promised += ("best_configs.yaml", "experiment.yaml", "events.jsonl")
    assert [name for name in promised if not (results / name).is_file()] == []


def test_the_csv_has_one_row_a_group_and_all_its_values(results: Path) -> None:
    lines = (results / "accuracy_table.csv").read_text().splitlines()
    assert lines[0] == COLUMNS
    table = pd.read_csv(results / "accuracy_table.csv")
    assert len(table) == 2 * 3
    assert not table.isna().any().any()
    assert table.test_accuracy.between(0.5, 1).all()
    assert (table.seeds == 2).all()
    assert table[table.partition == 100].n_train.unique().tolist() == [989]
    assert table[table.partition == 10].n_train.unique().tolist() == [99]


def test_every_trial_is_in_trials_csv_with_its_end(results: Path) -> None:
    trials = pd.read_csv(results / "trials.csv")
    counts = trials.groupby(["partition", "method"]).size().to_dict()
    expected = {"frozen": 2, "llrd": 5, "seed_llrd": 1}
    assert counts == {(p, m): n for p in (10, 100) for m, n in expected.items()}
    assert set(trials.status) <= {"completed", "stopped"}


def test_probes_are_decided_before_what_starts_from_them(results: Path) -> None:
    ended = {(e["group"], e["trial"]): e["time"] for e in events(results, "trial_ended")}
    for event in events(results, "trial_started"):
        partition, method = event["group"].split("/")
        if method != "frozen":
            probes = [t for (group, _), t in ended.items() if group == f"{partition}/frozen"]
            assert len(probes) == 2
            assert max(probes) <= event["time"]
            assert event["probe"]["blocks"] == "none"


def test_nothing_of_the_test_split_comes_before_the_winners(results: Path) -> None:
    order = [e.get("stage", e["event"]) for e in events(results, "stage", "winner")]
    assert order[:2] == ["features", "search"]
    assert order.index("test features") > max(i for i, e in enumerate(order) if e == "winner")


def test_best_configs_can_be_searched_as_they_are(results: Path) -> None:
    best = yaml.safe_load((results / "best_configs.yaml").read_text())
    assert set(best) == {"10", "100"}
    for methods in best.values():
        for entry in methods.values():
            space = MethodConfig(space=entry["config"]).parsed
            assert space.first() == entry["config"]
            assert space.searched == {}


def test_final_fits_are_paired_by_seed_and_differ_between_seeds(results: Path) -> None:
    fits = [json.loads(p.read_text()) for p in sorted((results / "final_fits").glob("*.json"))]
    assert len(fits) == 2 * 3 * 2
    assert all(len(fit["predictions"]) == fit["n_test"] == 449 for fit in fits)
    ten = {fit["seed"]: fit["predictions"] for fit in fits if fit["partition"] == 10
           and fit["method"] == "frozen"}  # fmt: skip
    assert ten[0] != ten[1]


def test_a_second_run_computes_no_features(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.features

    def computes(*_: Any) -> None:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(tune.features, "over_slots", computes)
    run_quietly(small("final.seeds=1"), tmp_path)
    assert (tmp_path / "small" / "accuracy_table.md").exists()


def test_resuming_a_finished_run_repeats_nothing(results: Path) -> None:
    before = events(results, "trial_started", "trial_report", "trial_ended", "stage")
    table = (results / "accuracy_table.csv").read_bytes()
    run_quietly(small(), results.parent, resume=True)
    assert events(results, "trial_started", "trial_report", "trial_ended", "stage") == before
    assert (results / "accuracy_table.csv").read_bytes() == table


def test_extending_keeps_what_was_done(results: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(results, tmp_path / "small")
    done = {(e["group"], e["trial"]) for e in events(results, "trial_ended")}
    more = small("data.partitions=[10, 50, 100]", "search.trials=6")
    report = run_quietly(more, tmp_path, resume=True)
    started = events(tmp_path / "small", "trial_started")[len(done) :]
    again = {(e["group"], e["trial"]) for e in started}
    assert not again & done
    assert len(again) == (2 + 6 + 1) + 2  # a whole partition, one more of llrd in the others
    assert report.table.partition.unique().tolist() == [10, 50, 100]


def test_no_checkpoint_outlives_its_trial(results: Path) -> None:
    assert list((results / "checkpoints").iterdir()) == []


def test_skipped_images_are_listed_and_counted(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        label, split = ("dark", "light")[i % 2], ("train", "val", "test")[i % 3]
        pixels = rng.integers(0, 80, (24, 24, 3)) + 150 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", label, split))
    (tmp_path / "3.png").write_bytes(b"no image")
    with (tmp_path / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    photos = small(
        f"data.source=csv:{tmp_path / 'images.csv'}",
        "data.partitions=[100]",
        "data.max_unreadable=0.06",
        "search.samples=60",
        "search.trials=1",
        name="photos",
    )
    report = run_quietly(photos, tmp_path)
    skipped = (tmp_path / "photos" / "skipped_images.csv").read_text().splitlines()
    assert len(skipped) == 2
    assert skipped[1].startswith("train,")
    assert "images skipped: 1" in report.markdown
    assert (report.table.n_train == 19).all()
