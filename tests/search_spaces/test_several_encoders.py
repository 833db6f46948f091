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


JOINED = """
models:
  small: {name: ViT-B-32, pretrained: openai, precision: float32}
  dino: {name: "timm:vit_small_patch14_dinov2.lvd142m", precision: float32}
  large: {name: ViT-L-14, pretrained: openai, precision: float32}
  half: {name: ViT-L-14, pretrained: openai, precision: bfloat16}
"""


def test_joined_encoders_have_probes_alone_and_know_what_they_join(tmp_path: Path) -> None:
    text = (
        f"{SPACE}{JOINED}  both: {{concat: [small, dino]}}\n  clips: {{concat: [small, large]}}\n"
    )
    (tmp_path / "two.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "two.yaml")
    assert Experiment.model_validate(experiment.resolved()) == experiment
    models, trained = experiment.models, {"llrd": ["100"]}
    both, clips = (experiment.of_encoder(name, trained) for name in ("both", "clips"))
    assert both.model.name == "small + dino"
    assert both.model.joined == (models["small"], models["dino"])
    assert both.model.precision == "float32"
    assert "zero_shot" not in both.methods
    assert {"zero_shot", "frozen"} <= {*clips.methods}
    assert all(method.frozen_encoder for one in (both, clips) for method in one.methods.values())
    assert Experiment.model_validate(clips.resolved()) == clips
    assert "llrd" in experiment.of_encoder("small", trained).methods


@pytest.mark.parametrize(
    ("joined", "message"),
    [
        ("[small, lrge]", r"models: x.concat: there is no encoder 'lrge'; did you mean 'large'\? "
         "allowed: two or more of small, dino, large, half$"),
        ("[small]", "models.x.concat: .*: one encoder alone is joined with none; name two$"),
        ("[]", "models.x.concat: .*: one encoder alone"),
        ("small", "models.x.concat: 'small' is no list of names; allowed: .NAME, NAME., or null$"),
        ("[small, 3]", "models.x.concat: .* is no list of names"),
        ("[small, {name: ViT-B-32}]", "models: x.concat: .* is no name; allowed: two or more"),
        ("[small, {nme: ViT-B-32}]", "models.x.concat"),
        ("[small, x]", "models: x.concat: x is itself; allowed"),
        ("[small, y]", "models: x.concat: y is joined of others; allowed: two or more"),
        ("[small, small]", "models: x.concat: small stands there twice"),
        ("[large, half]", "models: x.concat: joins encoders of precision bfloat16 and float32"),
        ("[small, dino], name: ViT-B-32", "models: x.name: beside concat; allowed: concat alone"),
        ("[small, dino], precision: float16", "models: x.precision: beside concat"),
        ("[small, dino], image_size: 64", "models: x.image_size: beside concat"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_one_line(tmp_path: Path, joined: str, message: str) -> None:
    text = f"{SPACE}{JOINED}  x: {{concat: {joined}}}\n  y: {{concat: [small, dino]}}\n"
    (tmp_path / "two.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_experiment(tmp_path / "two.yaml")
    assert "\n" not in str(caught.value)


def test_joined_encoders_stand_among_others(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(f"{SPACE}model: {{concat: [small, large]}}\n")
    with pytest.raises(InputError, match=r"model\.concat: names others of models"):
        load_experiment(tmp_path / "two.yaml")
    parts = "{name: ViT-B-32, pretrained: openai}, {name: ViT-B-16, pretrained: openai}"
    (tmp_path / "two.yaml").write_text(f"{SPACE}model: {{concat: [{parts}]}}\n")
    with pytest.raises(InputError, match=r"trains blocks, and model\.concat has none"):
        load_experiment(tmp_path / "two.yaml")


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
