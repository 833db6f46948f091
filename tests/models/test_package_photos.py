"""The script of a package reads photos as the search does."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.data import create_transform

from data.decoding import decode, least_side
from models.package import folder
from models.package.forms import OPEN_CLIP_FORM, TIMM_FORM
from models.timm_models import RESIZE_MODES
from tests.models.toys import imported


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
    _tell(script, SimpleNamespace(preprocess_cfg=vars(cfg)))
    pixels = np.random.default_rng(0).integers(0, 256, (*image, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    theirs = image_transform_v2(cfg, is_train=False)(photo)
    np.testing.assert_allclose(script.pixels(photo)[0], theirs, atol=1 / 255)


@settings(max_examples=100)
@given(
    image=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    size=st.sampled_from([(16, 16), (15, 15), (12, 20), (21, 9)]),
    mode=st.sampled_from([*RESIZE_MODES]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    crop=st.sampled_from([1.0, 0.95, 0.875]),
)
def test_the_script_preprocesses_as_timm(
    image: tuple[int, int],
    size: tuple[int, int],
    mode: str,
    interpolation: str,
    crop: float,
    script: ModuleType,
) -> None:
    options = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "interpolation": interpolation}
    how = {**options, "size": size, "resize_mode": RESIZE_MODES[mode], "crop_pct": crop}
    _tell(script, SimpleNamespace(preprocess_cfg={**how, "fill_color": 0}), timms=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*image, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    timms = create_transform((3, *size), crop_pct=crop, crop_mode=mode, **options)
    np.testing.assert_allclose(script.pixels(photo)[0], timms(photo), atol=1 / 255)


def _tell(script: ModuleType, visual: Any, timms: bool = False) -> None:
    """Write beside the script what a package of a tower would say of its preprocessing."""
    form = TIMM_FORM if timms else OPEN_CLIP_FORM
    how = form.preprocessing(SimpleNamespace(visual=visual))
    (script.HERE / "preprocess.json").write_text(json.dumps(how))


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
