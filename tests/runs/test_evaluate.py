"""The table's figures once more, from what a run left."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from data import load_dataset
from errors import InputError
from models.exported import load_adapted, load_exported, save_exported
from search_spaces import Experiment
from tests.runs.helpers import events, final_fits_in
from tune.evaluate import evaluate
from tune.run_dir import CONTENTS

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
FIGURES = 2 * (2 * 4 * 2)  # two test sets; two partitions, four methods, two seeds


def evaluated(run_dir: Path) -> tuple[bool, list[str]]:
    """What is found, and what is said of it."""
    said = io.StringIO()
    same = evaluate(run_dir, None, Console(file=said, width=200))
    return same, said.getvalue().splitlines()


@pytest.fixture
def run_dir(results: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(results, tmp_path / "small"))


def test_every_figure_of_the_table_comes_out_again(results: Path) -> None:
    same, lines = evaluated(results)
    assert same
    assert lines.pop() == f"{FIGURES} of {FIGURES} figures are the same to the last prediction"
    told = {}
    for line in lines:
        match = re.fullmatch(r"(.+)/(.+) seed (\d)( on phone)?: ([\d.]+), was ([\d.]+)", line)
        assert match, line
        assert match[5] == match[6]
        told[f"{match[1]}-{match[2]}-seed{match[3]}", match[4]] = float(match[6])
    assert len(told) == FIGURES
    for name, fit in final_fits_in(results).items():
        assert told[name, None] == pytest.approx(fit.tests["test"].accuracy, abs=1e-6)
        assert told[name, " on phone"] == pytest.approx(fit.tests["phone"].accuracy, abs=1e-6)


def keep_only(run_dir: Path, *names: str) -> None:
    """Leave some final fits alone: what is slow is to score them all."""
    for path in (run_dir / "final_fits").glob("*.json"):
        if path.stem not in names:
            path.unlink()


def test_one_changed_weight_is_found_and_named(run_dir: Path) -> None:
    names = ("100-frozen-seed0", "100-seed_llrd-seed1")
    keep_only(run_dir, *names)
    path = run_dir / "winners" / f"{names[1]}.safetensors"
    description, weights = load_exported(path)
    weights["head/bias"][3] += 10
    save_exported(path, description, weights)
    same, lines = evaluated(run_dir)
    assert not same
    (test,) = (line for line in lines if line.startswith("100/seed_llrd seed 1:"))
    assert re.search(r"; \d+ predictions differ$", test)
    assert not any("differ" in line for line in lines if line.startswith("100/frozen"))
    assert lines[-1].startswith("2 of 4 figures are the same")


def test_a_run_of_before_has_the_same_figures(run_dir: Path) -> None:
    keep_only(run_dir, "100-frozen-seed0")
    path = run_dir / "final_fits" / "100-frozen-seed0.json"
    record = json.loads(path.read_text())
    del record["temperature"]
    for score in record["tests"].values():
        del score["confidences"], score["calibrated"]
    path.write_text(json.dumps(record))
    weights = run_dir / "winners" / "100-frozen-seed0.safetensors"
    description, arrays = load_exported(weights)
    save_exported(weights, description.model_copy(update={"temperature": None}), arrays)
    _, lines = evaluated(run_dir)
    assert lines[-1].startswith("2 of 2 figures are the same")
    assert load_exported(weights)[0].temperature is None
    assert load_adapted(weights).classes == description.classes


def test_an_accuracy_that_the_predictions_do_not_have_is_found(run_dir: Path) -> None:
    keep_only(run_dir, "100-frozen-seed0")
    path = run_dir / "final_fits" / "100-frozen-seed0.json"
    record = json.loads(path.read_text())
    record["tests"]["test"]["accuracy"] += 0.01
    path.write_text(json.dumps(record))
    same, lines = evaluated(run_dir)
    assert not same
    assert lines[-1].startswith("1 of 2 figures")


def refused(run_dir: Path) -> str:
    with pytest.raises(InputError) as error:
        evaluate(run_dir, None, Console(quiet=True))
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def change_experiment(run_dir: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run_dir / "experiment.yaml"
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))


def test_what_is_no_run_is_refused(tmp_path: Path, run_dir: Path) -> None:
    assert "nowhere: no such folder" in refused(tmp_path / "nowhere")
    assert "holds no run" in refused(tmp_path)
    (run_dir / "experiment.yaml").write_bytes(b"\xff\xfe")
    assert "experiment.yaml: damaged, or of no run ('utf-8' codec" in refused(run_dir)
    (run_dir / "experiment.yaml").write_text("identity: 3")
    assert "experiment.yaml: damaged, or of no run" in refused(run_dir)
    (run_dir / "experiment.yaml").write_text("identity: {}\nname: x\nnew_key: 1")
    assert "experiment.yaml: of another version, or made with --import (data: this key" in refused(
        run_dir
    )


def test_a_run_without_results_or_weights_is_refused(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "winners")  # as with final.export: false
    line = refused(run_dir)
    assert ".safetensors is missing; weights are kept by final.export: true" in line
    (run_dir / "final_fits" / "10-llrd-seed0.json").write_text("{")
    assert "10-llrd-seed0.json is not the result of a final fit" in refused(run_dir)
    keep_only(run_dir)
    assert refused(run_dir).endswith("has no final fits yet")


@pytest.mark.parametrize("what", ["data", "model", "code"])
def test_other_data_code_or_encoder_is_refused(what: str, run_dir: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["identity"][what] = "another"

    change_experiment(run_dir, change)
    line = refused(run_dir)
    assert f"{CONTENTS[f'identity.{what}']} are not those that {run_dir} was made with" in line


def test_other_test_images_are_refused(run_dir: Path) -> None:
    keep_only(run_dir, "100-frozen-seed0")
    path = run_dir / "test_images.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    rows[5][2] = str((int(rows[5][2]) + 1) % 10)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert refused(run_dir).endswith("the images of test are not those it was scored on")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows[:-1])
    assert "the images of " in refused(run_dir)


def test_changed_test_images_are_refused(run_dir: Path) -> None:
    """Their names and classes are as before."""
    keep_only(run_dir, "100-frozen-seed0")
    journal = run_dir / "events.jsonl"
    (told,) = {
        images["test"] for e in events(run_dir, "images") if "test" in (images := e["images"])
    }
    journal.write_text(journal.read_text().replace(told, told[::-1]))
    assert refused(run_dir).endswith("was scored on other images of test, by the same names")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def scramble(path: Path) -> None:
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    path.write_bytes(path.read_bytes()[:8] + b"x" * length)


def of_another_recipe(path: Path) -> None:
    description, weights = load_exported(path)
    recipe = description.recipe.model_copy(update={"blocks": "11"})
    save_exported(path, description.model_copy(update={"recipe": recipe}), weights)


def of_another_encoder(path: Path) -> None:
    description, weights = load_exported(path)
    save_exported(path, description.model_copy(update={"fingerprint": "another"}), weights)


@pytest.mark.parametrize("damage", [cut, scramble, of_another_recipe, of_another_encoder])
def test_damaged_weights_are_named_before_anything_starts(
    damage: Callable[[Path], None], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ray(*_: object) -> None:
        raise AssertionError("Ray was started first")

    monkeypatch.setattr("tune.evaluate.joined", no_ray)
    path = run_dir / "winners" / "100-seed_llrd-seed0.safetensors"
    damage(path)
    assert refused(run_dir).startswith(str(path))
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        load_adapted(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["100-zero_shot-seed0", "10-frozen-seed1", "100-seed_llrd-seed0"])
def test_an_adapted_model_classifies_images_as_the_table_says(
    name: str, results: Path, shared: Experiment
) -> None:
    dataset, fit = load_dataset(shared.data), final_fits_in(results)[name]
    weights = results / "winners" / f"{name}.safetensors"
    model = load_adapted(weights)
    assert model.classes == dataset.classes
    images = [dataset.source.image(key) for key in dataset.tests["test"].split.keys]
    probabilities = model.classify(images)
    assert probabilities.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    predictions = probabilities.argmax(-1).numpy()
    right = predictions == dataset.tests["test"].split.labels
    assert right.mean() == fit.tests["test"].accuracy
    score = fit.tests["test"]
    assert predictions.tolist() == score.predictions
    np.testing.assert_allclose(probabilities.amax(-1).numpy(), score.calibrated, atol=1e-3)
    assert load_exported(weights)[0].temperature == fit.temperature
