"""Experiments in YAML, and what overrides them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from models.recipe import Recipe
from search_spaces import Experiment, load_experiment
from tests.search_spaces.written import refused

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"

# Files


@pytest.mark.parametrize("name", ["digits", "digits_all", "folder", "food101"])
def test_every_shipped_space_loads(name: str) -> None:
    experiment = load_experiment(SPACES / f"{name}.yaml")
    assert experiment.name == name
    assert experiment.probe is not None
    for method in experiment.methods.values():
        Recipe(**method.parsed.first())
    assert yaml.safe_load(yaml.safe_dump(experiment.resolved())) == experiment.resolved()


def test_the_default_is_the_table_of_the_readme() -> None:
    experiment = load_experiment(SPACES / "digits.yaml")
    assert list(experiment.methods) == ["zero_shot", "frozen", "frozen_zeros", "llrd"]
    assert experiment.probe == "frozen"
    assert experiment.needs_zero_shot
    assert [experiment.trials(method) for method in experiment.methods] == [1, 3, 3, 10]
    first = experiment.methods["llrd"].parsed.first()
    assert (first["blocks"], first["lr"], first["llrd_decay"]) == ("11-7", 1e-3, 0.8)


def test_a_file_without_a_name_gives_its_own(file: Path) -> None:
    assert load_experiment(file).name == "small"


def test_resolved_values_are_the_experiment_again(file: Path) -> None:
    experiment = load_experiment(file)
    assert Experiment.model_validate(experiment.resolved()).resolved() == experiment.resolved()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys and values such as `name: food`, got null"),
        ("- a\n- b", "expected keys and values such as `name: food`, got ['a', 'b']"),
        ("a: [1, 2", "line 1, column 9: not YAML: expected ',' or ']'"),
    ],
)
def test_what_is_no_experiment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    line = refused(path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml: cannot be read" in refused(tmp_path / "nowhere.yaml")
    assert "cannot be read" in refused(tmp_path)  # a folder


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9".encode("latin-1"))
    assert "latin.yaml: cannot be read (it is not UTF-8 text)" in refused(path)


# Overrides


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("search.trials=3", "search.trials", 3),
        ("search.asha.rungs = 2", "search.asha.rungs", 2),
        ("data.partitions=[1, 50]", "data.partitions", [1, 50]),
        ("name=other", "name", "other"),
        ("data.source=folder:/a=b", "data.source", "folder:/a=b"),
        ("methods.llrd.space.lr=1e-5", "methods.llrd.space.lr", 1e-5),
        ("methods.llrd.default={lr: 2e-3}", "methods.llrd.default", {"lr": 2e-3}),
        ("methods.llrd.space.blocks={choice: [11]}", "methods.llrd.space.blocks", {"choice": [11]}),
        ("features.cache=", "features.cache", None),
    ],
)
def test_settings_override_the_file(file: Path, setting: str, key: str, value: Any) -> None:
    settings = [setting]
    if key == "methods.llrd.space.lr":
        settings.append("methods.llrd.default={}")
    node: Any = load_experiment(file, settings).resolved()
    for piece in key.split("."):
        node = node[piece]
    assert node == value


def test_settings_reach_the_parsed_space(file: Path) -> None:
    settings = ["methods.llrd.space.lr=1e-5", "methods.llrd.default={}"]
    space = load_experiment(file, settings).methods["llrd"].parsed
    assert space.fixed == {"lr": 1e-5}
    assert type(space.fixed["lr"]) is float


def test_later_settings_win_and_options_win_over_settings(file: Path) -> None:
    experiment = load_experiment(
        file, ["seed=1", "seed=2", "search.trials=5"], {"search.trials": 7, "name": "given"}
    )
    assert (experiment.seed, experiment.search.trials, experiment.name) == (2, 7, "given")


def test_a_setting_may_add_a_method(file: Path) -> None:
    experiment = load_experiment(file, ["methods.last={space: {blocks: 11, lr: 1e-4}}"])
    assert experiment.methods["last"].parsed.fixed == {"blocks": "11", "lr": 1e-4}


def test_a_setting_changes_one_user_of_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text(
        "data: {source: digits}\n"
        "methods:\n"
        "  a: {space: &shared {blocks: none, batch_size: 8}}\n"
        "  b: {space: *shared}\n"
    )
    methods = load_experiment(path, ["methods.a.space.batch_size=16"]).methods
    assert methods["a"].parsed.fixed["batch_size"] == 16
    assert methods["b"].parsed.fixed["batch_size"] == 8


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "--set 'seed': expected key.path=value"),
        ("=3", "--set '=3': expected key.path=value"),
        ("", "--set '': expected key.path=value"),
        ("seed=[1", "--set seed: line 1, column 3: not YAML"),
        ("seed=*a", "--set seed: line 1, column 1: not YAML"),
        ("data.source.kind=3", "--set 'data.source.kind=3': source holds a value, not keys"),
        ("data=3", "data: 3 has no keys. Allowed: keys and values"),
        ("serach.trials=3", "serach.trials: unknown key; did you mean 'search'?"),
        ("search..trials=3", "--set 'search..trials=3': expected key.path=value"),
        ("a\nb=3", "a b: unknown key; allowed: name, seed"),
    ],
)
def test_a_malformed_setting_is_refused(file: Path, setting: str, message: str) -> None:
    assert message in refused(file, setting)


def test_the_template_names_every_key() -> None:
    """Where else would a user look?"""
    text = (SPACES / "folder.yaml").read_text()

    def keys(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from keys(field.annotation)

    missing = [key for key in keys(Experiment) if not re.search(rf"\b{key}:", text)]
    assert missing == []


def test_a_parameter_fixed_on_the_command_line_needs_no_default() -> None:
    fixed = load_experiment(SPACES / "digits.yaml", ["methods.llrd.space.head_lr=0.5"])
    assert fixed.methods["llrd"].parsed.first()["head_lr"] == 0.5
    assert "lr" in fixed.methods["llrd"].default
