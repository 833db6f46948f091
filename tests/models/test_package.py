"""A package does elsewhere what the winner does here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import ExifTags, Image
from torch import Tensor

from data.decoding import decode, least_side
from errors import InputError
from models.config import ModelConfig
from models.exported import (
    Adapted,
    Description,
    exported_weights,
    load_adapted,
    load_exported,
    save_exported,
)
from models.loading import load_pretrained
from models.package import Card, folder, load_package, onnx_file, write_package
from models.recipe import Recipe
from models.selection import select
from tests.models.fits import CLASSES
from tests.models.test_exported import tuned
from tests.models.tiny_clip import CONFIG, NAME, folder_of
from tests.models.toys import imported

NAMES = ("=cmd|' /C calc'!A0", "[x](javascript:0)|\n# <b>\x1b[31m", "Löwe, 狮子")
CARD = Card(
    run="small",
    source="folder:/home/me/secret/flowers",
    partition="100%",
    method="llrd",
    configuration="all of block 2, lr 1e-2",
    accuracy="61.2 ± 3.1%",
    seed=0,
    seed_accuracy="62.0%",
)
TIMM = {
    "timm_model_name": "test_vit.r160_in1k",
    "timm_pool": "token",
    "timm_proj": "linear",
    "image_size": 160,
}
SIGLIP_WIDTH = 96
SIGLIP = {"timm_model_name": "test_vit3.r160_in1k", "timm_pool": "map", "timm_proj": "none"}
VISION: dict[str, dict[str, Any]] = {
    "timm": TIMM,
    "SigLIP": {**TIMM, **SIGLIP},
    "native, large images": CONFIG["vision_cfg"],
    "ConvNeXt": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": "avg"},
    "ResNet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "patch_size": None},
}
RECIPES: dict[str, dict[str, Any]] = {
    "native": {"blocks": "1-0", "kinds": "ln+attn+mlp"},
    "native, LoRA": {"blocks": "1", "kinds": "attn+mlp", "lora_rank": 2},
    "native, final": {"blocks": "final", "kinds": "proj"},
    "timm": {"blocks": "5-4", "kinds": "ln+mlp"},
    "SigLIP": {"blocks": "final", "kinds": "proj"},
    "native, large images": {"blocks": "1", "kinds": "mlp"},
    "ConvNeXt": {"blocks": "4-1", "kinds": "ln+mlp+conv"},
    "ResNet": {"blocks": "all", "kinds": "ln+attn+conv+proj"},
}


def base(path: Path, vision: dict[str, Any]) -> str:
    """A `local-dir:` of a tiny CLIP with this image tower."""
    torch.manual_seed(0)
    tower = vision or CONFIG["vision_cfg"]
    dim = SIGLIP_WIDTH if tower.get("timm_proj") == "none" else CONFIG["embed_dim"]
    model = open_clip.model.CLIP(dim, tower, CONFIG["text_cfg"])
    name = folder_of(path, model, std=[0.3, 0.4, 0.5])
    file = path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"] |= {"embed_dim": dim, "vision_cfg": tower}
    file.write_text(json.dumps(config))
    return name


def described(model: ModelConfig, recipe: Recipe, fingerprint: str) -> Description:
    return Description(
        recipe=recipe,
        boundary="pixels",
        model=model,
        fingerprint=fingerprint,
        precision="float32",
        classes=NAMES,
    )


def winner(path: Path, name: str) -> Path:
    """The file of weights of a winner: a fit's, or made up for a tower of larger images."""
    size = 32 if name.endswith("large images") else None
    model = ModelConfig(name=base(path / "base", VISION.get(name, {})), image_size=size)
    found = load_pretrained(model)
    if name in VISION:
        recipe = Recipe(**RECIPES[name])
        torch.manual_seed(1)
        weights: dict[str, Tensor] = {
            p.key: 1.3 * found.encoder.group(p.group).get_parameter(p.name)
            for p in select(recipe, found.encoder).parameters
        }
        weights["head/weight"] = torch.randn(CLASSES, found.encoder.dim)
        weights["head/bias"] = torch.randn(CLASSES)
    else:
        fit = tuned(found.encoder, "pixels", **RECIPES[name])
        recipe, weights = fit.recipe, exported_weights(fit)
    save_exported(path / "w.safetensors", described(model, recipe, found.fingerprint), weights)
    return path / "w.safetensors"


def test_a_tower_of_timm_for_another_image_size_is_refused(tmp_path: Path) -> None:
    name = base(tmp_path / "base", VISION["timm"])
    found = load_pretrained(ModelConfig(name=name, image_size=96))
    assert found.encoder.shapes["pixels"] == (3, 96, 96)
    weights = {"head/weight": torch.zeros(3, found.encoder.dim), "head/bias": torch.zeros(3)}
    model = ModelConfig(name=name, image_size=96)
    save_exported(tmp_path / "w", described(model, Recipe(), found.fingerprint), weights)
    with pytest.raises(InputError, match="images of their own size alone"):
        write_package(tmp_path / "package", tmp_path / "w", CARD)


@dataclass(frozen=True)
class Packed:
    """A package, and the model that it is made of."""

    folder: Path
    ours: Adapted

    def pixels(self, n: int) -> Tensor:
        size = self.ours.preprocess(Image.new("RGB", (9, 7))).shape
        return torch.randn(n, *size, generator=torch.Generator().manual_seed(n))


@pytest.fixture(scope="module", params=RECIPES)
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    path = tmp_path_factory.mktemp("packed")
    file = winner(path, request.param)
    write_package(path / "package", file, CARD)
    ours = load_adapted(file)
    ours.model.cpu()  # wherever there is a GPU
    return Packed(path / "package", ours)


def test_open_clip_embeds_with_the_adapted_tower(packed: Packed) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{packed.folder}")
    pixels = packed.pixels(5)
    with torch.no_grad():
        theirs = model.eval().encode_image(pixels, normalize=True)
        ours = F.normalize(packed.ours.model.embed(pixels), dim=-1)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    image = Image.effect_mandelbrot((40, 31), (-2, -1, 1, 1), 50).convert("RGB")
    assert torch.equal(preprocess(image), packed.ours.preprocess(image))
    base = open_clip.create_model(f"local-dir:{packed.folder.parent / 'base'}")
    for name, weight in base.state_dict().items():
        if not name.startswith("visual."):
            assert torch.equal(model.state_dict()[name], weight), name


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


# Preprocessing


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("script")
    return imported(path, "photos", Path(folder.__file__).with_name("photos.py").read_text())


@settings(max_examples=150)
@given(
    image=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    size=st.sampled_from([(16, 16), (15, 15), (12, 20), (21, 9)]),
    mode=st.sampled_from(["shortest", "longest", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "random"]),
    fill=st.integers(0, 255),
)
def test_the_script_preprocesses_as_open_clip(
    image: tuple[int, int],
    size: tuple[int, int],
    mode: str,
    interpolation: str,
    fill: int,
    script: ModuleType,
) -> None:
    options = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "resize_mode": mode}
    cfg = PreprocessCfg(size=size, interpolation=interpolation, fill_color=fill, **options)
    (script.HERE / "preprocess.json").write_text(json.dumps({**vars(cfg)}))
    pixels = np.random.default_rng(0).integers(0, 256, (*image, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    theirs = image_transform_v2(cfg, is_train=False)(photo)
    np.testing.assert_allclose(script.pixels(photo)[0], theirs, atol=1 / 255)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_the_script_reads_large_photos_as_the_search_does(
    kind: str, tmp_path: Path, script: ModuleType
) -> None:
    (script.HERE / "preprocess.json").write_text(json.dumps({"size": [12, 20]}))
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path = tmp_path / f"large.{kind}"
    Image.fromarray(noise).resize((701, 499), Image.Resampling.BICUBIC).save(path)
    small = script.prepared(path)
    assert min(small.size) < 120
    assert small.tobytes() == decode(path.read_bytes(), least_side((12, 20))).tobytes()


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
