"""An experiment with several encoders: how it is written, and what each encoder's part is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from records import Cell
from search_spaces import Experiment, load_experiment
from terminal import Terminal
from tune.request import Request, checked, chosen_models, encoder_keys

SPACE = """
extends: folder
name: two
data: {source: "folder:photos", partitions: [10, 100]}
"""
MODELS = "models: {small: {name: ViT-B-32, pretrained: openai}, large: {name: ViT-L-14}}\n"


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    (tmp_path / "two.yaml").write_text(SPACE + MODELS)
    return load_experiment(tmp_path / "two.yaml")


def test_several_encoders_replace_the_one_that_a_file_extends(experiment: Experiment) -> None:
    assert [*experiment.models] == ["small", "large"]
    assert Experiment.model_validate(experiment.resolved()) == experiment


def test_options_go_with_several_encoders(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SPACE + MODELS)
    few = load_experiment(tmp_path / "two.yaml", methods=["frozen"], quick=True)
    assert [*few.models] == ["small", "large"]
    assert [*few.methods] == ["frozen"]
    one = load_experiment(tmp_path / "two.yaml", overrides={"model.name": "ViT-B-16"})
    assert (one.models, one.model.name) == ({}, "ViT-B-16")


def test_an_encoders_part_has_its_probes_and_its_rows_of_blocks(experiment: Experiment) -> None:
    part = experiment.of_encoder("large", {"llrd": ["100"]})
    assert part.name == "large"
    assert part.model.name == "ViT-L-14"
    assert not part.models
    probes = {name for name, method in experiment.methods.items() if method.frozen_encoder}
    assert {*part.methods} == probes | {"llrd"}
    assert [cell for cell in part.cells if cell.method == "llrd"] == [Cell(100, "llrd")]
    assert Cell(10, "frozen") in part.cells


def test_one_encoder_and_several_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SPACE + MODELS)
    (tmp_path / "one.yaml").write_text(SPACE)
    folder, status = tmp_path / "two", Terminal(quiet=True)
    folder.mkdir()

    def refused(space: str, message: str, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            checked(Request(str(tmp_path / space), out=tmp_path, **options), status)

    (folder / "events.jsonl").touch()
    refused("two.yaml", "already holds a run of one encoder; --name starts another", resume=True)
    (folder / "events.jsonl").unlink()
    (folder / "experiment.yaml").write_text("models: {small: {}, third: {}}")
    refused("one.yaml", "data.source: no folder", resume=True)  # as no encoder has begun
    (folder / "third").mkdir()
    (folder / "third" / "events.jsonl").touch()
    refused("one.yaml", "already holds a run of several encoders", resume=True)
    refused("two.yaml", "--resume: .* also has the encoder third; name it", resume=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("model: {name: ViT-B-32}\n", "models: beside model"),
        ("methods: {frozen: null, frozen_zeros: null, gda: null, zero_shot: null, llrd: null,"
         " layer_norm: {space: {head_start: zeros}}}\n", "compared by a method with blocks: none"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "two.yaml").write_text(SPACE + MODELS + more)
    with pytest.raises(InputError, match=message):
        load_experiment(tmp_path / "two.yaml")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Winners", "a run's own folder"),
        ("SMALL", "differ by capitals"),
        ("a b", "letters, digits"),
    ],
)
def test_an_encoder_has_a_folders_name(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "two.yaml").write_text(f"{SPACE}models: {{small: {{}}, '{name}': {{}}}}\n")
    with pytest.raises(InputError, match=message):
        load_experiment(tmp_path / "two.yaml")


def test_rows_are_of_the_table_and_have_a_probe_to_start_from(tmp_path: Path) -> None:
    for methods, message in (
        ("{llrd: {rows: [20]}}", r"methods.llrd.rows: no row 20; allowed: 10, 100"),
        ("{llrd: {rows: [ten]}}", r"a row is a percentage, or so many shots: 4shot"),
        ("{llrd: {rows: []}}", "rows: it is empty; null is every row"),
        ("{frozen: {rows: [10]}}", r"starts from the head of frozen, which has no row 100"),
    ):
        (tmp_path / "two.yaml").write_text(f"{SPACE}methods: {methods}\n")
        with pytest.raises(InputError, match=message):
            load_experiment(tmp_path / "two.yaml")


def test_the_command_line_names_encoders_by_what_tells_them_apart() -> None:
    def named(*words: str) -> list[str]:
        return [*chosen_models([encoder_keys(word) for word in words])["models"]]

    assert named("ViT-B-32:openai", "local-dir:/photos/my tiny") == ["ViT-B-32-openai", "my-tiny"]
    assert named("ViT-B-32:openai", "ViT-B-32:laion2b") == ["ViT-B-32-openai", "ViT-B-32-laion2b"]
    assert chosen_models([encoder_keys("ViT-B-32")]) == {"model.name": "ViT-B-32"}
    with pytest.raises(InputError, match="two encoders are called 'ViT-B-32-openai'"):
        named("ViT-B-32:openai", "ViT-B-32:openai")
