"""A whole small run, in this process: what it leaves, and what a second one repeats."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from rich.console import Console

import tune.stages
from data import SourceConfig
from errors import InputError
from partitions import Shots
from records import CLASSES, LABEL_ISSUES, Cell
from search_spaces import Experiment, MethodConfig
from tests.records.test_events_document import check, documented
from tests.runs.helpers import (
    events,
    final_fits_in,
    run_quietly,
    scans,
    small,
    table_of,
    weights_of,
    write_csv,
    write_images,
)
from tune.run import Options, dry_run, run
from tune.setup import prepare
from tune.trials.final_fits import FinalFitJob, run_final_fits

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
COLUMNS = (
    "partition,method,n_train,n_val,val_accuracy,test_accuracy,test_ci95,seeds,trials,"
    "trials_stopped_early,config,test_ci95_seeds,test_ci95_images,search_seconds,final_seconds,"
    "saved_seconds,alpha,ema,best,phone_accuracy,phone_ci95"
)
COUNTS = {"zero_shot": 1, "frozen": 1, "llrd": 5, "seed_llrd": 1}
"""Trials of a cell."""


def test_every_promised_file_is_there(results: Path) -> None:
    promised = ("accuracy_table.md", "accuracy_table.csv", "accuracy.png", "trials.csv")
    promised += ("best_configs.yaml", "experiment.yaml", "events.jsonl", "test_images.csv")
    assert [name for name in promised if not (results / name).is_file()] == []


def test_the_csv_has_one_row_a_group_and_all_its_values(results: Path) -> None:
    lines = (results / "accuracy_table.csv").read_text().splitlines()
    assert lines[0] == COLUMNS
    table = pd.read_csv(results / "accuracy_table.csv")
    assert len(table) == 2 * 4
    tuned = table.method.isin(["llrd", "seed_llrd"])
    assert table[~tuned][["alpha", "ema"]].isna().all().all()
    assert table[tuned].alpha.isin([0.5, 0.625, 0.75, 0.875, 1]).all()  # over two seeds
    assert not table.drop(columns=["alpha", "ema"]).isna().any().any()
    assert table.test_accuracy.between(0.5, 1).all()
    assert table.phone_accuracy.between(0, 1).all()
    assert (table.seeds == 2).all()
    assert table[table.partition == 100].n_train.unique().tolist() == [989]
    assert table[table.partition == 10].n_train.unique().tolist() == [99]


def test_every_trial_is_in_trials_csv_with_its_end(results: Path) -> None:
    trials = pd.read_csv(results / "trials.csv")
    counts = trials.groupby(["partition", "method"]).size().to_dict()
    assert counts == {(p, m): n for p in (10, 100) for m, n in COUNTS.items()}
    assert set(trials.status) <= {"completed", "stopped"}


def test_probes_are_decided_before_what_starts_from_them(results: Path) -> None:
    ended = {(e["cell"], e["trial"]): e["time"] for e in events(results, "trial_ended")}
    for event in events(results, "trial_started"):
        partition, method = event["cell"].split("/")
        if "llrd" in method:
            probes = [t for (cell, _), t in ended.items() if cell == f"{partition}/frozen"]
            assert len(probes) == 1
            assert max(probes) <= event["time"]
            assert event["probe"]["blocks"] == "none"


def test_nothing_of_the_test_split_comes_before_the_winners(results: Path) -> None:
    order = [e.get("stage", e["event"]) for e in events(results, "stage", "winner")]
    assert order[:2] == ["features", "search"]
    assert order.index("test features") > max(i for i, e in enumerate(order) if e == "winner")
    assert order.index("label audit") > order.index("final fits")


def test_images_are_counted_by_class_and_their_labels_audited(results: Path) -> None:
    counts = CLASSES.read(results)
    assert counts["label"].tolist()[:2] == ["zero", "one"]
    sums = counts[["train", "val", "test"]].sum().tolist()
    assert sums == [989, 359, 449]
    issues = LABEL_ISSUES.read(results)
    assert set(issues["split"]) <= {"train", "val", "test"}
    assert len(issues) < 0.05 * 1797  # scikit-learn's digits are labelled well


def test_an_audit_that_is_missing_is_made_again_and_nothing_else(
    results: Path, shared: Experiment, tmp_path: Path
) -> None:
    run_dir = shutil.copytree(results, tmp_path / "small")
    (run_dir / LABEL_ISSUES.file).unlink()
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*-seed*")}
    run_quietly(shared, tmp_path, resume=True)
    assert (run_dir / LABEL_ISSUES.file).read_bytes() == (results / LABEL_ISSUES.file).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*-seed*")} == before


def test_best_configs_can_be_searched_as_they_are(results: Path) -> None:
    best = yaml.safe_load((results / "best_configs.yaml").read_text())
    assert set(best) == {"10", "100"}
    for methods in best.values():
        for entry in methods.values():
            space = MethodConfig(space=entry["config"]).parsed  # that of `best`, too
            assert space.first() == entry["config"]
            assert space.searched == {}


def test_final_fits_are_paired_by_seed_and_differ_between_seeds(results: Path) -> None:
    fits = final_fits_in(results)
    assert len(fits) == 2 * 4 * 2
    assert all(len(fit.tests["test"].predictions) == fit.n_test == 449 for fit in fits.values())
    first, second = (fits[f"10-frozen-seed{seed}"].tests["test"] for seed in (0, 1))
    assert first.predictions != second.predictions
    best = yaml.safe_load((results / "best_configs.yaml").read_text())["10"]["frozen"]["config"]
    assert fits["10-frozen-seed0"].chosen.items() <= best.items()  # the search's own draw
    bank = yaml.safe_load((results / "experiment.yaml").read_text())["methods"]["frozen"]["space"]
    assert {fits[f"10-frozen-seed{seed}"].chosen["weight_decay"] for seed in (0, 1)} <= {
        *bank["weight_decay"]["bank"]
    }
    for name, fit in fits.items():
        assert (fit.gradient_norms != {}) == ("llrd" in name)
        assert (results / "winners" / f"{name}.safetensors").is_file()


def test_clip_as_it_is_needs_no_training_and_no_seed(results: Path) -> None:
    fits = final_fits_in(results)
    alone = [fit for name, fit in fits.items() if "zero_shot" in name]
    assert len({tuple(fit.tests["test"].predictions) for fit in alone}) == 1
    assert {fit.steps_chosen for fit in alone} == {0}
    assert alone[0].tests["test"].accuracy > 0.6  # of ten classes


def test_further_tests_are_scored_with_the_winners(results: Path) -> None:
    with (results / "test_images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {name: [int(row["label"]) for row in rows if row["set"] == name]
              for name in ("test", "phone")}  # fmt: skip
    assert [len(labels["test"]), len(labels["phone"])] == [449, 39]
    table = pd.read_csv(results / "accuracy_table.csv").set_index(["partition", "method"])
    means: dict[Cell, list[float]] = {}
    for fit in final_fits_in(results).values():
        for name, score in fit.tests.items():
            right = [a == b for a, b in zip(score.predictions, labels[name], strict=True)]
            assert score.accuracy == sum(right) / len(right)
        assert list(fit.tests) == ["test", "phone"]
        accuracies = means.setdefault(fit.cell, [])
        accuracies.append(fit.tests["phone"].accuracy)
    for cell, accuracies in means.items():
        assert table.phone_accuracy[cell] == pytest.approx(sum(accuracies) / 2)


def test_an_unreadable_image_is_told_with_the_set_it_is_of(results: Path) -> None:
    (row,) = csv.DictReader((results / "skipped_images.csv").open(newline=""))
    assert (row["split"], Path(row["key"]).name) == ("phone", "7.png")


@pytest.mark.usefixtures("results")
def test_a_second_run_computes_no_features(cache: Path, tmp_path: Path) -> None:
    def shards() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in cache.rglob("*.safetensors")}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}

    before = shards()
    assert before
    run_quietly(small("final.seeds=1", methods=["frozen"]), tmp_path)
    assert (tmp_path / "small" / "accuracy_table.md").exists()
    assert shards() == before


def test_a_further_test_that_is_refused_costs_no_result(
    results: Path, shared: Experiment, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "small")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    images, labels = scans(3)
    names = write_images(tmp_path / "night", images)
    (tmp_path / "night" / names[0]).write_bytes(b"no image")
    rows = zip(names, labels, ["test"] * 3, strict=True)
    night = SourceConfig(source=write_csv(tmp_path / "night" / "night.csv", rows))
    tests = {**shared.data.extra_tests, "night": night}
    data = shared.data.model_copy(update={"extra_tests": tests})
    with pytest.raises(InputError, match="night"):
        run_quietly(shared.model_copy(update={"data": data}), tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert weights_of(tmp_path / "small") == weights_of(results)


def test_no_checkpoint_outlives_its_trial(results: Path) -> None:
    assert list((results / "checkpoints").iterdir()) == []


def test_a_final_fit_that_failed_finds_its_checkpoint_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fits: Iterable[FinalFitJob], *rest: Any) -> Iterator[Any]:
        *others, last = fits
        yield last, 0.0, "out of memory"
        yield from run_final_fits(others, *rest)

    methods = ["frozen", "seed_llrd"]
    experiment = small("final.seeds=1", "data.partitions=[10]", methods=methods)
    checkpoints = tmp_path / "small" / "checkpoints"
    monkeypatch.setattr(tune.stages, "run_final_fits", failing)
    run_quietly(experiment, tmp_path)
    assert [path.name for path in checkpoints.glob("*.pt")] == ["10-seed_llrd-0.pt"]
    assert final_fits_in(tmp_path / "small").keys() == {"10-frozen-seed0"}
    monkeypatch.undo()

    # The same run with another seed, out of time: every winner is measured once all the same.
    final = experiment.final.model_copy(update={"seeds": 2})
    longer = experiment.model_copy(update={"final": final})
    said = io.StringIO()
    options = Options(out=tmp_path, resume=True, time_budget=1.0)
    report = run(longer, options, Console(file=said, width=200))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("time budget: ")]
    assert re.match(r"time budget: too short for all final fits, by at least \d", lines[0])
    assert re.match(r"time budget: missed by \d", lines[-1])
    assert final_fits_in(tmp_path / "small").keys() == {f"10-{name}-seed0" for name in methods}
    assert "2 of 4 final fits are made; resume the run for the others" in report.markdown()
    assert [path.name for path in checkpoints.glob("*.pt")] == ["10-seed_llrd-0.pt"]

    report = run_quietly(longer, tmp_path, resume=True)
    assert len(final_fits_in(tmp_path / "small")) == 4
    assert "resume the run" not in report.markdown()
    assert list(checkpoints.iterdir()) == []


def test_a_run_on_photos_with_views_and_matched_validation(tmp_path: Path) -> None:
    """Two classes of noise, told apart by brightness; the one that 1 shot has of one is broken."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 80, (24, 24, 3)) + 150 * (i % 2) for i in range(60)]
    names = write_images(tmp_path, [Image.fromarray(x.astype(np.uint8)) for x in noise])
    source = write_csv(
        tmp_path / "images.csv",
        [(name, ("dark", "light")[i % 2], ("train", "val", "test")[i % 3])
         for i, name in enumerate(names)],
    )  # fmt: skip
    photos = small(
        f"data.source={source}",
        "data.partitions=[50, 100]",
        "data.shots=[1, 3]",
        "search.epochs=4",  # a horizon by the images that there are, of which one is broken
        "data.max_unreadable=0.06",
        "data.validation=matched",
        "methods.frozen.space.views=2",
        name="photos",
        methods=["frozen"],
    )
    prepared = prepare(photos)
    lost = prepared.draws.rows(Shots(1), 0)[0]
    (tmp_path / prepared.dataset.train.keys[lost]).write_bytes(b"no image")
    told = io.StringIO()
    report = run(photos, Options(out=tmp_path), Console(file=told, width=200))
    assert "1 image cannot be read and is left out: train " in told.getvalue()
    skipped = (tmp_path / "photos" / "skipped_images.csv").read_text().splitlines()
    assert len(skipped) == 2
    assert skipped[1].startswith("train,")
    assert "The run skipped 1 image (" in report.markdown()
    table = table_of(tmp_path / "photos")
    assert table.partition.tolist() == ["1shot", "3shot", "50", "100"]
    assert table.n_train.tolist() == [2, 5, 9, 19]  # 1 shot has another photo of its class
    assert table.n_val.tolist() == [2, 6, 10, 20]
    assert (table.test_accuracy[1:] > 0.7).all()

    other = photos.model_copy(update={"seed": 1})
    with pytest.raises(InputError, match=r"^--resume: seed is 1, but "):
        dry_run(other, Options(out=tmp_path, resume=True), Console())
    figures = (tmp_path / "photos" / "accuracy_table.csv").read_bytes()
    (tmp_path / "photos" / "test_images.csv").unlink()
    run_quietly(photos, tmp_path, resume=True)  # without the list, intervals would be too narrow
    assert (tmp_path / "photos" / "accuracy_table.csv").read_bytes() == figures

    Image.fromarray((255 - noise[6]).astype(np.uint8)).save(tmp_path / "6.png")  # of train
    more = photos.model_copy(update={"final": photos.final.model_copy(update={"seeds": 3})})
    with pytest.raises(InputError, match=r"^--resume: train or val images have changed"):
        run_quietly(more, tmp_path, resume=True)
    assert len(final_fits_in(tmp_path / "photos")) == 4 * 2
    # What was refused has left no trace in what the run is.
    assert read(tmp_path / "photos" / "experiment.yaml")["final"]["seeds"] == 2

    Image.fromarray(noise[6].astype(np.uint8)).save(tmp_path / "6.png")
    Image.fromarray((255 - noise[8]).astype(np.uint8)).save(tmp_path / "8.png")  # of test
    with pytest.raises(InputError, match=r"^--resume: test images have changed"):
        run_quietly(more, tmp_path, resume=True)
    assert len(final_fits_in(tmp_path / "photos")) == 4 * 2


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def test_the_journal_holds_what_its_document_says(results: Path) -> None:
    check(results / "events.jsonl")
    reports = events(results, "trial_report")
    wanted = documented()["trial_report"] - {"chosen"}  # of banks alone
    assert [e for e in reports if not wanted <= set(e)] == []
