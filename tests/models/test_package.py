"""A package does elsewhere what the winner does here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from safetensors.torch import load_file
from torch import Tensor

from data.decoding import decode
from errors import InputError
from models.config import ModelConfig
from models.exported import (
    load_adapted,
    load_exported,
    save_exported,
)
from models.loading import load_pretrained
from models.package import folder, load_package, onnx_file, write_package
from models.recipe import Recipe
from tests.models.fits import CLASSES
from tests.models.packages import (
    CARD,
    NAMES,
    RECIPES,
    VISION,
    Packed,
    base,
    described,
    winner,
)
from tests.models.tiny_clip import NAME


def test_a_tower_of_timm_for_another_image_size_is_refused(tmp_path: Path) -> None:
    name = base(tmp_path / "base", VISION["timm"])
    found = load_pretrained(ModelConfig(name=name, image_size=96))
    assert found.encoder.shapes["pixels"] == (3, 96, 96)
    weights = {"head/weight": torch.zeros(3, found.encoder.dim), "head/bias": torch.zeros(3)}
    model = ModelConfig(name=name, image_size=96)
    save_exported(tmp_path / "w", described(model, Recipe(), found.fingerprint), weights)
    with pytest.raises(InputError, match="images of their own size alone"):
        write_package(tmp_path / "package", tmp_path / "w", CARD)


@pytest.fixture(scope="module", params=RECIPES)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    path = tmp_path_factory.mktemp("packed")
    file = winner(path, request.param)
    write_package(path / "package", file, CARD)
    ours = load_adapted(file)
    ours.model.cpu()  # wherever there is a GPU
    return Packed(path / "package", ours)


def read_by_its_library(folder: Path) -> tuple[Callable[[Tensor], Tensor], Any]:
    """What maps pixels to embeddings of length 1, and the preprocessing."""
    if (folder / "config.json").exists():
        tower = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        projection = load_file(folder / "classifier.safetensors")["projection"]
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(tower))
        return lambda pixels: F.normalize(tower(pixels) @ projection.T, dim=-1), transform
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return lambda pixels: model.eval().encode_image(pixels, normalize=True), preprocess


@torch.no_grad()
def test_the_library_embeds_with_the_adapted_tower(packed: Packed) -> None:
    embed, preprocess = read_by_its_library(packed.folder)
    pixels = packed.pixels(5)
    ours = F.normalize(packed.ours.model.embed(pixels), dim=-1)
    torch.testing.assert_close(embed(pixels), ours, rtol=0, atol=1e-5)
    image = Image.effect_mandelbrot((240, 131), (-2, -1, 1, 1), 50).convert("RGB")
    assert torch.equal(preprocess(image), packed.ours.preprocess(image))


def test_the_text_tower_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "write_onnx", lambda *_: None)
    write_package(tmp_path / "package", winner(tmp_path, "native"), CARD)
    base, model = (open_clip.create_model(f"local-dir:{tmp_path / f}") for f in ("base", "package"))
    texts = {n: w for n, w in base.state_dict().items() if not n.startswith("visual.")}
    assert texts
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in texts.items())


def test_onnx_gives_our_probabilities_for_any_number_of_images(packed: Packed) -> None:
    session = onnxruntime.InferenceSession(packed.folder / "model.onnx")
    for n in (1, 100):
        pixels = packed.pixels(n)
        (theirs,) = session.run(None, {"pixels": pixels.numpy()})
        np.testing.assert_allclose(theirs, packed.ours.probabilities([*pixels]), atol=1e-4)


def test_a_package_is_read_back(packed: Packed) -> None:
    again = load_package(packed.folder)
    assert again.classes == NAMES
    pixels = [*packed.pixels(5)]
    ours = packed.ours.probabilities(pixels)
    torch.testing.assert_close(again.probabilities(pixels), ours, rtol=0, atol=1e-5)


def photos(path: Path) -> list[Path]:
    """Photos of several modes; one says that it lies on its side."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (37, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(path / "turned.png", exif=exif)
    image.convert("RGBA").resize((20, 60)).save(path / "a.webp")
    grey = np.linspace(0, 65535, 900).astype(np.uint16).reshape(30, 30)
    Image.fromarray(grey).save(path / "grey16.png")
    clear = image.convert("RGBA")
    clear.putalpha(90)
    clear.save(path / "clear.png")
    image.convert("P").save(path / "palette.gif")
    return sorted(path.iterdir())


def test_the_script_gives_our_labels_and_passes_over_what_is_broken(
    packed: Packed, tmp_path: Path
) -> None:
    files = photos(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    command = [sys.executable, packed.folder / "predict.py", "broken.jpg", *files]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("broken.jpg: cannot be read: ")
    assert len(found.stderr.splitlines()) == 1
    probabilities = packed.ours.classify([decode(file.read_bytes()) for file in files])
    lines = found.stdout.splitlines()
    assert len(lines) == len(files)
    for line, file, row in zip(lines, files, probabilities, strict=True):
        path, label, probability = line.split("\t")
        assert path == str(file)
        assert label == NAMES[row.argmax()].replace("\n", "\\n").replace("\x1b", "\\x1b")
        assert float(probability) == pytest.approx(row.max().item(), abs=2e-3)


def test_the_cards_own_words_give_our_label(
    packed: Packed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image.effect_mandelbrot((40, 31), (-2, -1, 1, 1), 50).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(packed.folder / "photo.jpg", quality=100, exif=exif)
    card = (packed.folder / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(packed.folder)
    monkeypatch.syspath_prepend(packed.folder)
    exec(snippet, {})
    monkeypatch.delitem(sys.modules, "photos")
    best = packed.ours.classify([decode(Path("photo.jpg").read_bytes())]).argmax()
    assert capsys.readouterr().out == NAMES[best] + "\n"


def test_the_card_shows_texts_as_they_are_and_no_path_of_this_machine(packed: Packed) -> None:
    card = (packed.folder / "README.md").read_text()
    for shown in ("folder\\:flowers", "61.2 ± 3.1%", "62.0% (seed 0)", "opset 18", "100%"):
        assert shown in card, shown
    assert "secret" not in card
    assert str(packed.folder.parent) not in card
    assert "\x1b" not in card
    assert "<b>" not in card.replace("\\<b\\>", "")
    assert json.loads((packed.folder / "classes.json").read_text()) == [*NAMES]


def test_large_weights_lie_beside_the_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "LARGEST", 0)
    file = winner(tmp_path, "native, final")
    write_package(tmp_path / "package", file, CARD)
    assert (tmp_path / "package" / "model.onnx.data").stat().st_size > 10_000
    pixels = torch.zeros(1, 3, 16, 16)
    session = onnxruntime.InferenceSession(tmp_path / "package" / "model.onnx")
    (theirs,) = session.run(None, {"pixels": pixels.numpy()})
    ours = load_adapted(file).probabilities([*pixels])
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_the_activation_that_weights_need_is_written(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick: tuple[dict[str, Any], list[str]] = ({"force_quick_gelu": True}, [])
    monkeypatch.setattr("models.loading.options_of_file", lambda name: quick)
    monkeypatch.setattr(folder, "write_onnx", lambda *_: None)
    model = ModelConfig(name=NAME, pretrained=str(tmp_path / "weights.pt"))
    found = load_pretrained(model)
    weights = {"head/weight": torch.ones(CLASSES, 12), "head/bias": torch.ones(CLASSES)}
    description = described(model, Recipe(blocks="none"), found.fingerprint)
    save_exported(tmp_path / "w.safetensors", description, weights)
    write_package(tmp_path / "package", tmp_path / "w.safetensors", CARD)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'package'}").eval()
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ours = F.normalize(found.encoder(pixels), dim=-1)
        torch.testing.assert_close(theirs.encode_image(pixels, normalize=True), ours)


# Damage


def test_a_package_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    file = winner(tmp_path, "native, final")
    monkeypatch.setattr(folder, "write_onnx", fails)
    before = {*tmp_path.iterdir()}
    with pytest.raises(ZeroDivisionError):
        write_package(tmp_path / "package", file, CARD)
    assert {*tmp_path.iterdir()} == before


def test_other_weights_of_the_encoder_are_refused(tmp_path: Path) -> None:
    file = winner(tmp_path, "native, final")
    description, weights = load_exported(file)
    save_exported(file, description.model_copy(update={"fingerprint": "another"}), weights)
    with pytest.raises(InputError, match="trained on other weights of local-dir"):
        write_package(tmp_path / "package", file, CARD)
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "classes.json").write_text("{"),
        lambda path: (path / "classes.json").write_text("7"),
        lambda path: (path / "classes.json").write_text('["a", "b"]'),
        lambda path: (path / "classes.json").write_text('["a", "b", 3]'),
        lambda path: (path / "classes.json").write_bytes(b"\xff"),
        lambda path: (path / "classifier.safetensors").write_bytes(b"x"),
    ],
)
def test_a_damaged_package_is_one_line(
    damage: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = winner(tmp_path, "native, final")
    monkeypatch.setattr(folder, "write_onnx", lambda *_: None)
    write_package(tmp_path / "package", file, CARD)
    damage(tmp_path / "package")
    with pytest.raises(InputError, match="is not the one that was exported, by SHA256SUMS"):
        load_package(tmp_path / "package")
    (tmp_path / "package" / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "package"))) as error:
        load_package(tmp_path / "package")
    assert "\n" not in str(error.value)


def test_files_that_were_swapped_are_told(packed: Packed, tmp_path: Path) -> None:
    shutil.copytree(packed.folder, tmp_path / "package")
    classes = json.loads((tmp_path / "package" / "classes.json").read_text())
    (tmp_path / "package" / "classes.json").write_text(json.dumps(classes[::-1]))
    with pytest.raises(InputError, match=r"classes.json is not the one that was exported"):
        load_package(tmp_path / "package")
    command = [sys.executable, tmp_path / "package" / "predict.py", "photo.jpg"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert "classes.json is not the one that was exported" in found.stderr
