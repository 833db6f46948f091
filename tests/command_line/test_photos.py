"""A folder of photos on the command line, without a search space; and the quick answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from PIL import Image

from partitions import Shots
from run_search import main
from search_spaces import Experiment
from tests.command_line.conftest import SPACE, Calls
from tune.photos import run_name


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """80 training images of two classes, once val and test are drawn."""
    folder = tmp_path / "My photos (2024)"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(62):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / label / f"{number}.png")
    return folder


def asked(calls: Calls) -> Experiment:
    assert calls.experiment is not None
    return calls.experiment


def test_a_folder_is_searched_as_the_ready_space_says(
    photos: Path, tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "local-dir:models/glyph_clip"]
    assert main([f"folder:{photos}", *model, "--out", str(tmp_path / "out")]) == 0
    experiment = asked(calls)
    assert experiment.name == "My-photos-2024"
    assert experiment.data.source == f"folder:{photos}"
    assert (experiment.model.name, experiment.model.pretrained) == (model[1], None)
    assert "llrd" in experiment.methods
    # 1% would be one image for two classes.
    assert experiment.data.amounts == (
        *map(Shots, (1, 2)), 10, 20, 30, 40, 50, 60, 70, 80, 90, 100,
    )  # fmt: skip
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"folder:{photos}: local-dir:models/glyph_clip, methods zero_shot, ")
    assert str(tmp_path / "out" / "My-photos-2024" / "experiment.yaml") in second


def test_places_are_kept_so_that_any_folder_finds_them(
    photos: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    (photos.parent / "own.pt").touch()
    (photos.parent / "names.yaml").write_text("cat: kitten")
    words = [f"folder:{photos.name}", "--model", "timm:test_vit:own.pt"]
    assert main([*words, "--set", "data.class_names=names.yaml"]) == 0
    found = asked(calls)
    assert found.data.source == f"folder:{photos}"
    assert found.data.class_names == photos.parent / "names.yaml"
    assert found.model.pretrained == str(photos.parent / "own.pt")
    assert main(["digits"]) == 0
    assert asked(calls).model.name == "local-dir:models/glyph_clip"  # of any checkout
    assert main([f"folder:{photos.name}", "--model", "ViT-B-32:openai"]) == 0
    assert asked(calls).model.pretrained == "openai"


def test_what_ran_can_be_edited_and_run_again(photos: Path, tmp_path: Path, calls: Calls) -> None:
    assert main([f"folder:{photos}", "--quick", "--dry-run"]) == 0
    before = asked(calls)
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(before.resolved() | {"identity": {"run": "1"}}))
    assert main([str(path), "--dry-run"]) == 0
    assert asked(calls).resolved() == before.resolved()


def test_quick_is_four_methods_at_three_amounts(photos: Path, calls: Calls) -> None:
    assert main([f"folder:{photos}", "--quick", "--dry-run"]) == 0
    experiment = asked(calls)
    assert experiment.name == "My-photos-2024-quick"
    assert list(experiment.methods) == ["zero_shot", "frozen", "layer_norm", "llrd"]
    assert experiment.data.amounts == (Shots(1), 10, 100)
    assert experiment.trials("llrd") == 6


@pytest.mark.parametrize(
    "words",
    [
        "--trials 8 --partitions 5,50 --methods frozen --name mine",
        "--set search.trials=8 --set data.partitions=[5,50] --set name=mine --methods frozen",
    ],
)
def test_an_option_wins_over_quick(photos: Path, words: str, calls: Calls) -> None:
    assert main([f"folder:{photos}", "--quick", "--dry-run", *words.split()]) == 0
    experiment = asked(calls)
    assert (experiment.search.trials, experiment.data.amounts) == (8, (5, 50))
    assert experiment.name == "mine"
    assert list(experiment.methods) == ["frozen"]


def test_shots_alone_are_the_rows(photos: Path, calls: Calls) -> None:
    assert main([f"folder:{photos}", "--shots", "1,4", "--dry-run"]) == 0
    assert asked(calls).data.amounts == (Shots(1), Shots(4))
    assert main([f"folder:{photos}", "--shots=1", "--partitions=100", "--dry-run"]) == 0
    assert asked(calls).data.amounts == (Shots(1), 100)


def test_quick_takes_the_methods_that_a_file_has(tmp_path: Path, calls: Calls) -> None:
    path = tmp_path / "own.yaml"
    methods = {name: {"space": {"blocks": "none"}, "trials": 40} for name in ("frozen", "mine")}
    tree = SPACE | {"methods": methods, "search": {"samples": 500}}
    path.write_text(yaml.safe_dump(tree))
    assert main([str(path), "--quick", "--dry-run"]) == 0
    assert list(asked(calls).methods) == ["frozen"]
    assert asked(calls).methods["frozen"].trials is None
    assert (asked(calls).search.trials, asked(calls).search.samples) == (6, 500)
    assert asked(calls).data.amounts == (1, 10, 100)


def test_a_kind_with_a_ready_space_of_its_own_has_that(calls: Calls) -> None:
    assert main(["digits", "--dry-run"]) == 0
    assert asked(calls).name == "digits"
    assert asked(calls).model.name == "local-dir:models/glyph_clip"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder:/a/Übung & 1/", "Ubung-1"),
        ("folder:/a/..b", "b"),
        ("folder:/写真", "folder"),
        ("csv:/a/labels.v2.csv", "labels.v2"),
        ("torchvision:Food101", "Food101"),
        ("webdataset:a/train-{000..010}.tar", "train-000-010"),
        (f"folder:/{'x' * 200}", "x" * 60),
        ("folder:.", os.path.basename(os.getcwd())),
    ],
)
def test_a_run_is_named_after_its_source(source: str, name: str) -> None:
    assert run_name(source) == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}"], "it is a folder; with one folder of photos a class in it, write folder:"),
        (["foldr:x"], "'foldr:x': neither a search space nor a source of images; did you mean"),
        (
            ["photos"],
            "'photos': neither a search space nor a source of images; there is no such file",
        ),
        (["x" * 5000], "neither a search space nor a source of images"),
        (["folder:"], "allowed: SPACE.yaml, digits, folder:PATH"),
        (["folder:/no"], "data.source: no folder /no"),
        (["digits", "--model", ""], "argument --model: it is empty; expected a model"),
        (["digits", "--model", "local-dir:/no"], "model.name: /no does not exist"),
    ],
)
def test_what_is_no_source_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("{folder}", str(tmp_path)) for word in words]
    assert main([*given, "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
