"""Names, tags, folders and checkpoints; what is wrong with them comes back in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import open_clip.factory
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from errors import InputError
from models.config import LOCAL_DIR, ROOT, ModelConfig, open_clip_models
from models.loading import _fingerprint, load_pretrained
from models.towers import split_tower
from tests.models.tiny_clip import CONFIG, NAME, folder_of, refusal


def test_the_bundled_model_loads_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = load_pretrained(ModelConfig()), load_pretrained(ModelConfig())
    assert first.fingerprint == second.fingerprint
    assert first.encoder.depth == 12
    image = Image.fromarray(np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3))
    pixels = first.preprocess(image)
    assert tuple(pixels.shape) == first.encoder.shapes["pixels"]
    assert pixels.dtype == torch.float32
    embedded = first.encoder(pixels[None])
    assert embedded.shape == (1, first.encoder.dim)
    assert torch.equal(embedded, second.encoder(pixels[None]))
    assert not any(p.requires_grad for p in first.encoder.parameters())


def test_a_folder_takes_no_other_weights(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"'weights\.pt', but local-dir:x has weights"):
        ModelConfig(name=f"{LOCAL_DIR}x", pretrained="weights.pt")


def test_a_checkpoint_is_loaded_by_path(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    config = ModelConfig(name=NAME, pretrained=str(tmp_path / "weights.pt"))
    found = load_pretrained(config)
    pixels = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(found.encoder(pixels), split_tower(tiny.visual)(pixels))


def test_images_of_another_size_have_resized_positions(
    tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    weights = str(tmp_path / "weights.pt")
    own, large = (
        load_pretrained(ModelConfig(name=NAME, pretrained=weights, image_size=size))
        for size in (None, 32)
    )
    assert (own.encoder.shapes["pixels"], large.encoder.shapes["pixels"]) == (
        (3, 16, 16),
        (3, 32, 32),
    )
    assert own.encoder.shapes["block 0"][0] == 1 + 2 * 2
    assert large.encoder.shapes["block 0"][0] == 1 + 4 * 4
    assert large.fingerprint != own.fingerprint
    assert large.preprocess(Image.new("RGB", (40, 50))).shape == (3, 32, 32)


def test_a_tower_whose_positions_cannot_be_resized_is_refused(tmp_path: Path) -> None:
    vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "patch_size": None}
    model = open_clip.model.CLIP(12, vision, CONFIG["text_cfg"])
    name = folder_of(tmp_path / "resnet", model, vision={**vision, "head_width": 64})
    load_pretrained(ModelConfig(name=name))
    with pytest.raises(InputError, match=r"with model.image_size: 96: .*size mismatch") as error:
        load_pretrained(ModelConfig(name=name, image_size=96))
    assert "\n" not in str(error.value)


def test_a_checkpoint_may_lie_below_the_home_folder(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(tiny.state_dict(), tmp_path / "weights.pt")
    monkeypatch.setenv("HOME", str(tmp_path))
    fingerprint = load_pretrained(ModelConfig(name=NAME, pretrained="~/weights.pt")).fingerprint
    path = str(tmp_path / "weights.pt")
    assert load_pretrained(ModelConfig(name=NAME, pretrained=path)).fingerprint == fingerprint


def test_a_folder_and_a_checkpoint_of_the_same_weights_embed_alike(
    tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    folder = load_pretrained(ModelConfig(name=folder_of(tmp_path / "folder", tiny)))
    named = load_pretrained(ModelConfig(name=NAME, pretrained=str(tmp_path / "weights.pt")))
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.equal(folder.encoder(pixels), named.encoder(pixels))
    # But they resize and normalise differently.
    assert folder.fingerprint != named.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.5, 0.5, 0.4]},
        {"interpolation": "bilinear"},
        {"resize_mode": "longest"},
        {"vision": {"head_width": 8}},
        {"vision": {"pool_type": "avg"}},
        {"vision": {"act_kwargs": {"approximate": "tanh"}}},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_what_is_computed(
    changes: dict[str, Any], tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    before = load_pretrained(ModelConfig(name=folder_of(tmp_path / "a", tiny)))
    same = load_pretrained(ModelConfig(name=folder_of(tmp_path / "b", tiny)))
    after = load_pretrained(ModelConfig(name=folder_of(tmp_path / "c", tiny, **changes)))
    assert before.fingerprint == same.fingerprint
    assert before.fingerprint != after.fingerprint
    if "vision" in changes:  # the weights are the same, what they compute is not
        pixels = torch.randn(2, 3, 16, 16)
        assert not torch.equal(before.encoder(pixels), after.encoder(pixels))


def test_the_fingerprint_changes_with_any_weight_of_the_image_tower(
    tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    before = load_pretrained(ModelConfig(name=folder_of(tmp_path / "before", tiny))).fingerprint
    names = [name for name, _ in tiny.visual.named_parameters()]
    seen = {before}
    for number, name in enumerate((names[0], names[9], names[-1])):
        parameter = tiny.visual.get_parameter(name)
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-6
        changed = ModelConfig(name=folder_of(tmp_path / str(number), tiny))
        seen.add(load_pretrained(changed).fingerprint)
    assert len(seen) == 4


def test_the_fingerprint_ignores_the_text_tower(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    before = load_pretrained(ModelConfig(name=folder_of(tmp_path / "before", tiny)))
    with torch.no_grad():
        tiny.text_projection.add_(1)
    after = load_pretrained(ModelConfig(name=folder_of(tmp_path / "after", tiny)))
    assert before.fingerprint == after.fingerprint


def test_the_fingerprint_survives_training_mode_and_use(
    tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    """Taken before or after the tower is split, in whatever mode, it is the same."""
    config = ModelConfig(name=NAME, pretrained=str(tmp_path / "weights.pt"))
    expected = load_pretrained(config).fingerprint
    model = open_clip.create_model(NAME, pretrained=str(tmp_path / "weights.pt"))
    assert _fingerprint(model.visual.train()) == expected
    split_tower(model.visual)
    assert _fingerprint(model.visual) == expected


def test_unknown_names_come_with_a_suggestion() -> None:
    message = refusal("ViT-B-23", "openai")
    assert "unknown model 'ViT-B-23'; did you mean 'ViT-B-32'?" in message
    assert "local-dir:FOLDER" in message
    assert "did you mean" not in refusal("zzzzzz", "openai")


def test_names_are_those_of_open_clip_whether_or_not_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = open_clip_models()
    assert "ViT-B-32" in known
    monkeypatch.delitem(sys.modules, "open_clip")
    assert open_clip_models() == sorted(known)


def test_unknown_tags_come_with_a_suggestion_and_the_list() -> None:
    message = refusal("ViT-B-32", "opnai")
    assert "did you mean 'openai'?" in message
    assert "laion2b_s34b_b79k" in message
    assert "needs weights" in refusal("ViT-B-32")


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    message = refusal(f"{LOCAL_DIR}{tmp_path / 'nothing'}")
    assert f"{tmp_path / 'nothing'} does not exist" in message
    assert "open_clip_config.json does not exist" in refusal(f"{LOCAL_DIR}{tmp_path}")
    assert "models/no_such does not exist" in refusal(f"{LOCAL_DIR}models/no_such")
    assert "neither a file nor a tag" in refusal("ViT-B-32", str(tmp_path / "weights.pt"))


def test_a_folder_without_weights_is_refused(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    name = folder_of(tmp_path / "folder", tiny)
    (tmp_path / "folder" / "open_clip_model.safetensors").unlink()
    assert "weights" in refusal(name)


@pytest.mark.parametrize("content", ["", "not json", "{}", '{"model_cfg": {}}', "[]"])
def test_broken_configurations_are_refused(
    content: str, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    name = folder_of(tmp_path / "folder", tiny)
    (tmp_path / "folder" / "open_clip_config.json").write_text(content)
    assert "cannot load" in refusal(name)


@pytest.mark.parametrize("option", ["vision_cfg", "text_cfg"])
def test_unknown_model_options_are_refused(
    option: str, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    name = folder_of(tmp_path / "folder", tiny)
    config = {"model_cfg": {**CONFIG, option: {**CONFIG[option], "wings": 2}}}
    (tmp_path / "folder" / "open_clip_config.json").write_text(json.dumps(config))
    assert "wings" in refusal(name)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04N."])
def test_files_that_are_no_checkpoints_are_refused(
    name: str, content: bytes, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"cannot load {NAME}" in refusal(NAME, str(tmp_path / name))


def other_shapes(state: dict[str, torch.Tensor]) -> Any:
    return {name: tensor[..., :1] if tensor.ndim else tensor for name, tensor in state.items()}


def nothing(state: dict[str, torch.Tensor]) -> Any:
    return {}


def a_tensor(state: dict[str, torch.Tensor]) -> Any:
    return torch.zeros(3)


def half_of_it(state: dict[str, torch.Tensor]) -> Any:
    return dict(list(state.items())[::2])


@pytest.mark.parametrize("broken", [other_shapes, nothing, a_tensor, half_of_it])
def test_checkpoints_that_do_not_fit_are_refused(
    broken: Any, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    torch.save(broken(tiny.state_dict()), tmp_path / "other.pt")
    assert "cannot load" in refusal(NAME, str(tmp_path / "other.pt"))


class Intruder:
    """A checkpoint that would run code."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("intruded",)


def test_checkpoints_run_no_code(
    tiny: open_clip.CLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Intruder()}, tmp_path / "evil.pt")
    assert "cannot load" in refusal(NAME, str(tmp_path / "evil.pt"))
    assert not (tmp_path / "intruded").exists()


def test_a_tower_without_blocks_is_refused(tiny: open_clip.CLIP, tmp_path: Path) -> None:
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "image_size": 32}
    config = {**CONFIG, "vision_cfg": vision}
    (tmp_path / "clip-search-other.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "clip-search-other.json")
    model = open_clip.create_model("clip-search-other")
    torch.save(model.state_dict(), tmp_path / "other.pt")
    message = refusal("clip-search-other", str(tmp_path / "other.pt"))
    assert "EfficientNet cannot be split into blocks; allowed: ViT of open_clip" in message


@pytest.mark.parametrize("trained_with_quick_gelu", [True, False])
def test_a_tag_trained_with_quick_gelu_gets_it(
    trained_with_quick_gelu: bool,
    tiny: open_clip.CLIP,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """open_clip only warns, and computes something else."""
    tag = {"quick_gelu": trained_with_quick_gelu, "file": str(tmp_path / "weights.pt")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, {"ours": tag})
    monkeypatch.setattr(
        open_clip.factory, "download_pretrained", lambda cfg, **_: cfg["file"], raising=True
    )
    found = load_pretrained(ModelConfig(name=NAME, pretrained="ours"))
    activations = {type(m).__name__ for m in found.encoder.modules() if "GELU" in type(m).__name__}
    assert activations == {"LeanQuickGELU" if trained_with_quick_gelu else "GELU"}


def test_openais_vit_b_32_is_built_with_quick_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def create(name: str, **options: Any) -> None:
        asked.update(options)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_: "")
    for tag, quick in (("openai", True), ("laion2b_s34b_b79k", False)):
        refusal("ViT-B-32", tag)
        assert asked == {"pretrained": tag, "force_image_size": None, "force_quick_gelu": quick}


def test_configurations_are_checked() -> None:
    for bad in ({"precision": "half"}, {"tag": "openai"}, {"name": 3}):
        with pytest.raises(ValidationError):
            ModelConfig(**bad)  # type: ignore[arg-type]


def test_the_bundled_weights_hold_no_surprises() -> None:
    """Finite everywhere, and what its own config describes."""
    weights = load_file(ROOT / "models/glyph_clip/open_clip_model.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    visual = {name.removeprefix("visual.") for name in weights if name.startswith("visual.")}
    model = open_clip.create_model(f"{LOCAL_DIR}{ROOT / 'models/glyph_clip'}")
    assert visual == set(model.visual.state_dict())


@pytest.mark.skipif(
    "CLIP_SEARCH_TEST_ENCODER" not in os.environ,
    reason="CLIP_SEARCH_TEST_ENCODER names no folder with an open_clip model",
)
def test_a_real_encoder_loads_and_is_what_open_clip_computes() -> None:
    name = f"{LOCAL_DIR}{os.environ['CLIP_SEARCH_TEST_ENCODER']}"
    found = load_pretrained(ModelConfig(name=name))
    model, _ = open_clip.create_model_from_pretrained(name)
    pixels = torch.randn(2, *found.encoder.shapes["pixels"])
    with torch.no_grad():
        expected = model.eval().encode_image(pixels, normalize=True)
    torch.testing.assert_close(
        found.encoder(pixels), expected * found.encoder.dim**0.5, rtol=1e-4, atol=1e-4
    )
    assert load_pretrained(ModelConfig(name=name)).fingerprint == found.fingerprint
