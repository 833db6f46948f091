"""Files of weights: what is none is called by its kind, and no code in it runs."""

from __future__ import annotations

import argparse
import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from models.config import ModelConfig
from models.loading import load_pretrained
from tests.models.tiny_clip import NAME, folder_of, refusal

Write = Callable[[open_clip.CLIP, Path], object]


def _jit(model: open_clip.CLIP, path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def _numpy_score(model: open_clip.CLIP, path: Path) -> None:
    torch.save({"state_dict": model.state_dict(), "best": np.float64(0.5)}, path)


def _arguments(model: open_clip.CLIP, path: Path) -> None:
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=1)}, path)


def _npz(model: open_clip.CLIP, path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=np.zeros(3))
    path.with_suffix(".npz").rename(path)


def _cut(model: open_clip.CLIP, path: Path) -> None:
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


def _legacy(model: open_clip.CLIP, path: Path) -> None:
    torch.save(model, path, _use_new_zipfile_serialization=False)


KINDS: dict[str, tuple[Write, str]] = {
    "TorchScript": (_jit, "is TorchScript, as OpenAI's own .pt files are"),
    "a whole model": (lambda m, p: torch.save(m, p), "holds Python objects (open_clip.model.CLIP"),
    "a whole model, as of old": (_legacy, "holds Python objects, which may run code"),
    "a pickle": (lambda m, p: p.write_bytes(pickle.dumps(argparse.Namespace())), "holds Python ob"),
    "a part": (_cut, "is cut off"),
    "numpy's scalar": (_numpy_score, "holds Python objects (numpy."),
    "arguments": (_arguments, "holds Python objects (argparse.Namespace), which may run code"),
    "a numpy archive": (_npz, "is a numpy archive"),
    "a numpy array": (
        lambda m, p: p.write_bytes(b"\x93NUMPY\x01\x00" + bytes(90)),
        "is a numpy array",
    ),
    "JSON": (lambda m, p: p.write_text(json.dumps({"a": 1})), "is JSON"),
    "a web page": (lambda m, p: p.write_text("\n<!DOCTYPE html><html>"), "is a web page"),
    "LFS": (
        lambda m, p: p.write_text("version https://git-lfs.github.com/spec/v1\noid"),
        "is a Git LFS pointer",
    ),
    "safetensors": (lambda m, p: save_file(m.state_dict(), p), "looks like safetensors"),
    "nothing": (lambda m, p: p.write_bytes(b""), "is empty"),
    "no weights": (lambda m, p: torch.save({"lr": 1.0, "epoch": 3}, p), "begin with lr (), epoch"),
    "a list": (lambda m, p: torch.save([torch.zeros(2)], p), "holds list"),
    "the image tower": (
        lambda m, p: torch.save(m.visual.state_dict(), p),
        "keys begin with class_embedding (32,), positional_embedding (5, 32), proj (32, 12)",
    ),
    "another size": (
        lambda m, p: torch.save({k: v[..., :1] for k, v in m.state_dict().items() if v.ndim}, p),
        "keys begin with positional_embedding (4, 1), text_projection (16, 1)",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_state_dict_is_called_by_its_kind(
    kind: str, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    write, words = KINDS[kind]
    write(tiny, tmp_path / "other.pt")
    message = refusal(NAME, str(tmp_path / "other.pt"))
    assert words in message
    assert "weights_only" not in message
    assert message.isprintable()
    assert len(message) < 600


def _nested(state: dict[str, Any]) -> Any:
    return {"epoch": 3, "model_state_dict": {f"_orig_mod.clip.{k}": v for k, v in state.items()}}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"model_state_dict": state},
        lambda state: {
            "state_dict": {k: torch.zeros_like(v) for k, v in state.items()},
            "state_dict_ema": {f"module.{k}": v for k, v in state.items()},
        },
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {f"clip_model.{k}": v for k, v in state.items()},
        lambda state: {**state, "input_resolution": torch.tensor(16)},
        lambda state: {k: v.half() for k, v in state.items()},
        _nested,
    ],
)
def test_wrapped_weights_are_those_inside(wrap: Any, tiny: open_clip.CLIP, tmp_path: Path) -> None:
    torch.save(wrap(tiny.state_dict()), tmp_path / "wrapped.pt")
    found = load_pretrained(ModelConfig(name=NAME, pretrained=str(tmp_path / "wrapped.pt")))
    plain = load_pretrained(ModelConfig(name=NAME, pretrained=str(tmp_path / "weights.pt")))
    pixels = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(found.encoder(pixels), plain.encoder(pixels), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("where", ["folder", "file"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda w: w.fill_(float("nan")), "visual.conv1.weight holds NaN or infinite numbers"),
        (lambda w: w.fill_(float("inf")), "visual.conv1.weight holds NaN or infinite numbers"),
        (lambda w: w.to(torch.int8), "visual.conv1.weight is int8"),
        (lambda w: w.bool(), "visual.conv1.weight is bool"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(
    broken: Any, message: str, where: str, tiny: open_clip.CLIP, tmp_path: Path
) -> None:
    state = tiny.state_dict()
    state["visual.conv1.weight"] = broken(state["visual.conv1.weight"].clone())
    if where == "file":
        torch.save(state, tmp_path / "other.pt")
        assert message in refusal(NAME, str(tmp_path / "other.pt"))
    else:
        name = folder_of(tmp_path / "folder", tiny)
        save_file(state, tmp_path / "folder" / "open_clip_model.safetensors")
        assert message in refusal(name)


def test_libraries_keep_their_words_to_themselves(
    tiny: open_clip.CLIP, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = folder_of(tmp_path / "folder", tiny)
    torch.save(tiny.state_dict(), tmp_path / "folder" / "second.bin")
    load_pretrained(ModelConfig(name=name))
    assert capfd.readouterr() == ("", "")
    assert not logging.root.manager.disable


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: Any, **__: Any) -> None:
        raise OSError("no network,\nor no disk")

    monkeypatch.setattr("open_clip.factory.download_pretrained", fetched)
    assert refusal("RN50", "openai") == (
        "model: the weights of RN50, openai cannot be downloaded (no network, or no disk); a file "
        "of them is taken as well: --model RN50:FILE, or model.pretrained"
    )
    monkeypatch.setattr("models.towers.TOWERS", [])
    assert "ModifiedResNet cannot be split" in refusal("RN50", "openai")


def test_names_of_no_known_kind_are_refused_as_such() -> None:
    message = refusal("ollama:laion/CLIP-ViT-B-32", None)
    assert "'ollama:laion/CLIP-ViT-B-32': of no known kind" in message
    assert "local-dir:FOLDER" in message
