"""What makes results worth believing, shown on whole runs that are as small as can be."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image

from search_spaces import Experiment
from tests.runs.helpers import (
    SHARED,
    events,
    final_fits_in,
    run_quietly,
    scans,
    small,
    table_of,
    weights_of,
    without_cost,
    without_seconds,
    write_csv,
    write_images,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def files_of(run_dir: Path) -> dict[str, tuple[int, bytes]]:
    """Every final fit's result and weights: when it was written, and what it holds."""
    paths = [*run_dir.glob("final_fits/*"), *run_dir.glob("winners/*")]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def extended(shared: Experiment, *, seeds: int, partitions: tuple[float, ...]) -> Experiment:
    """The shared experiment with more seeds and partitions, and one trial more for `llrd`."""
    tree = shared.resolved()
    tree["final"]["seeds"], tree["data"]["partitions"] = seeds, partitions
    tree["methods"]["llrd"]["trials"] = 6
    return Experiment.model_validate(tree)


def test_test_images_are_predicted_once_by_every_winner_and_seed(
    shared: Experiment, results: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "small"
    shutil.copytree(results, run_dir)  # keeps the files' times
    before, told = files_of(run_dir), events(run_dir, "trial_started", "trial_report", "stage")
    done = {(e["cell"], e["trial"]) for e in events(run_dir, "trial_ended")}
    table = (run_dir / "accuracy_table.csv").read_bytes()

    run_quietly(shared, tmp_path, resume=True)
    assert files_of(run_dir) == before
    assert events(run_dir, "trial_started", "trial_report", "stage") == told
    assert (run_dir / "accuracy_table.csv").read_bytes() == table

    more = extended(shared, seeds=3, partitions=(10, 50, 100))
    run_quietly(more, tmp_path, resume=True)
    extended_table = table_of(run_dir)
    assert extended_table.partition.unique().tolist() == [10, 50, 100]
    assert (extended_table.seeds == 3).all()
    again = [e for e in events(run_dir, "trial_started") if e not in told]
    started = {(e["cell"], e["trial"]) for e in again}
    assert not started & done
    assert len(started) == (1 + 1 + 6 + 1) + 2  # a whole partition; one more of llrd in the others
    after = files_of(run_dir)
    # Where the winner is what it was, so are its results, to the time they were written at.
    fits = final_fits_in(results)
    kept = {
        name
        for name in before
        if final_fits_in(run_dir)[Path(name).stem].fit_key == fits[Path(name).stem].fit_key
    }
    assert {name for name in before if "llrd-" not in name or "seed_llrd" in name} <= kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert len(after) == 2 * len(SHARED) * 3 * 3

    run_quietly(more, tmp_path, resume=True)
    assert files_of(run_dir) == after


def test_with_several_slots_the_same_winners_give_the_same_table(
    shared: Experiment, results: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "small"
    shutil.copytree(results, run_dir)
    done = [*run_dir.glob("final_fits/10-*"), *run_dir.glob("winners/10-*")]
    assert len(done) == 2 * len(SHARED) * 2
    for path in done:
        path.unlink()
    run_quietly(shared, tmp_path, resume=True)
    assert without_cost(run_dir) == without_cost(results)
    assert without_seconds(run_dir) == without_seconds(results)
    assert weights_of(run_dir) == weights_of(results)
    assert events(run_dir, "trial_started") == events(results, "trial_started")


def test_duplicates_between_splits_are_told(tmp_path: Path) -> None:
    """One test image is copied into train; one of val is saved anew, as JPEG, in test."""
    images, labels = scans(60, classes=2)
    names = write_images(tmp_path, [image.resize((96, 96)) for image in images])
    splits = [("train", "train", "val", "test")[i % 4] for i in range(60)]
    (tmp_path / "copy.png").write_bytes((tmp_path / names[3]).read_bytes())
    with Image.open(tmp_path / names[2]) as image:
        image.save(tmp_path / "anew.jpg", quality=80)
    more = [("copy.png", labels[3], "train"), ("anew.jpg", labels[2], "test")]
    rows = [*zip(names, labels, splits, strict=True), *more]
    source = write_csv(tmp_path / "images.csv", rows)
    found = small(
        f"data.source={source}", "data.partitions=[100]", name="found", methods=["frozen"]
    )
    report = run_quietly(found, tmp_path)
    with (tmp_path / "found" / "duplicates.csv").open(newline="") as file:
        told = {
            (row["kind"], row["split_a"], Path(row["key_a"]).name, row["split_b"],
             Path(row["key_b"]).name)
            for row in csv.DictReader(file)
        }  # fmt: skip
    assert told == {
        ("exact", "train", "copy.png", "test", names[3]),
        ("near", "val", names[2], "test", "anew.jpg"),
    }
    pairs = ("1 exact duplicate between train and test", "1 near duplicate between val and test")
    told_below = f"{', '.join(pairs)} (duplicates.csv)"
    assert told_below in report.markdown()
    listed = (tmp_path / "found" / "duplicates.csv").read_bytes()
    (tmp_path / "found" / "duplicates.csv").unlink()  # as if killed before they were found
    assert told_below in run_quietly(found, tmp_path, resume=True).markdown()
    assert (tmp_path / "found" / "duplicates.csv").read_bytes() == listed


def test_without_duplicates_their_list_is_empty(results: Path) -> None:
    assert (results / "duplicates.csv").read_text().splitlines() == [
        "kind,split_a,key_a,split_b,key_b"
    ]
    assert "duplicate" not in (results / "accuracy_table.md").read_text()


def test_groups_are_whole_from_the_source_to_the_table(tmp_path: Path) -> None:
    """Bursts of five: twelve to train on, six to validate and six to test."""
    images, labels = scans(120, classes=2)
    names = write_images(tmp_path, images)
    rows = [
        (names[row], labels[row], ("train", "train", "val", "test")[i // 5 % 4], f"burst {i // 5}")
        for i, row in enumerate(sorted(range(120), key=labels.__getitem__))
    ]
    source = write_csv(tmp_path / "images.csv", rows)
    settings = (f"data.source={source}", "data.partitions=[25, 100]", "data.validation=matched")
    report = run_quietly(small(*settings, name="bursts", methods=["frozen"]), tmp_path)
    fits = final_fits_in(tmp_path / "bursts").values()
    assert {(fit.partition, fit.n_train, fit.n_val) for fit in fits} == {
        (25, 15, 10),
        (100, 60, 30),
    }
    with (tmp_path / "bursts" / "test_images.csv").open(newline="") as file:
        told = {row["key"]: row["group"] for row in csv.DictReader(file)}
    assert told == {name: burst for name, _, split, burst in rows if split == "test"}
    assert "the 30 test images in 6 groups (bootstrap over groups, 2000" in report.markdown()
