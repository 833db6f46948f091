"""Configurations of a folder that no model can be built from are refused by name, at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest

from tests.models.tiny_clip import CONFIG, folder_of, refusal


def changed(path: Path, section: str, **changes: Any) -> None:
    file = path / "open_clip_config.json"
    config = json.loads(file.read_text())
    place = config["model_cfg"] if section in CONFIG else config
    place[section] |= changes
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("section", "option", "value", "message"),
    [
        ("vision_cfg", "patch_size", 0, "vision_cfg.patch_size is 0; allowed: 1 to 1000000"),
        ("vision_cfg", "layers", 10**7, "vision_cfg.layers is 10000000; allowed: 1 to 1000"),
        ("vision_cfg", "layers", [1, 10**7], "vision_cfg.layers is 10000000; allowed"),
        ("vision_cfg", "layers", 999, "weights, and the file of weights has only"),
        ("vision_cfg", "width", 10**5, "weights, and the file of weights has only"),
        ("vision_cfg", "width", float("nan"), "vision_cfg.width is nan"),
        ("vision_cfg", "mlp_ratio", float("inf"), "vision_cfg.mlp_ratio is inf"),
        ("vision_cfg", "image_size", [16, -8], "vision_cfg.image_size is -8"),
        ("vision_cfg", "head_width", 64, "num_heads=0"),
        ("text_cfg", "layers", 10**9, "text_cfg.layers is 1000000000"),
        ("text_cfg", "vocab_size", 10**15, "text_cfg.vocab_size is 1000000000000000"),
        ("text_cfg", "hf_model_name", "evil/model", "'evil/model', which would be fetched"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}, "would run a tokenizer's"),
        ("vision_cfg", "timm_model_name", "hf-hub:evil/model", "'hf-hub:evil/model'; allowed: a"),
        ("vision_cfg", "timm_model_name", "local-dir:/tmp", "'local-dir:/tmp'; allowed: a name"),
        ("vision_cfg", "layers", "12", "vision_cfg.layers is '12'; allowed: a number"),
        ("vision_cfg", "width", True, "vision_cfg.width is true; allowed: a number"),
        ("vision_cfg", "widht", 3, "vision_cfg has no option 'widht'; did you mean 'width'?"),
        ("text_cfg", "depth", 3, "text_cfg has no option 'depth'; "),
        ("preprocess_cfg", "means", 0, "preprocess_cfg has no option 'means'; did you mean 'mean'"),
        ("preprocess_cfg", "std", [0, 0, 0], "preprocess_cfg.std.0: Input should be greater"),
        ("preprocess_cfg", "std", 0, "preprocess_cfg.std.0: Input should be greater than 0, got 0"),
        ("preprocess_cfg", "std", [1, 1], "preprocess_cfg.std.2: Field required"),
        ("preprocess_cfg", "mean", [0.5, float("nan"), 0.5], "preprocess_cfg.mean.1: Input should"),
        ("preprocess_cfg", "interpolation", "no", "preprocess_cfg.interpolation: Input should be"),
        ("preprocess_cfg", "resize_mode", "no", "preprocess_cfg.resize_mode: Input should be"),
        ("preprocess_cfg", "mode", "CMYK", "preprocess_cfg.mode: Input should be"),
    ],
)
def test_what_no_model_can_be_is_refused_by_name(
    section: str,
    option: str,
    value: Any,
    message: str,
    tiny: open_clip.CLIP,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetched(*_: Any, **__: Any) -> None:
        raise AssertionError("reached for a network")

    monkeypatch.setattr("socket.socket.connect", fetched)
    name = folder_of(tmp_path / "folder", tiny)
    changed(tmp_path / "folder", section, **{option: value})
    began = time.process_time()
    assert message in refusal(name)
    assert time.process_time() - began < 5


def test_a_configuration_has_a_largest_size(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    name = folder_of(tmp_path / "folder", tiny)
    file = tmp_path / "folder" / "open_clip_config.json"
    for content, message in (
        (" " * (1 << 21), "more than"),
        ("[" * 100_000, "is not JSON: maximum recursion"),
        ('{"model_cfg": {},}', "open_clip_config.json is not JSON: "),
        ("[]", "open_clip_config.json has no model_cfg"),
        ('{"model_cfg": {"vision_cfg": []}}', "vision_cfg is []; allowed: options and values"),
        ('{"model_cfg": {"vision_cfg": {}}, "preprocess_cfg": "x"}', "preprocess_cfg is 'x'; all"),
    ):
        file.write_text(content)
        assert message in refusal(name)
