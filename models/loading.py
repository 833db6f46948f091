"""Pretrained encoders by open_clip name and tag, checkpoint path, or local folder."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from errors import InputError, did_you_mean, one_line
from files import expanded
from models.config import LOCAL_DIR, ModelConfig
from models.encoder import Encoder
from models.head import LinearHead
from models.towers import split_tower
from models.zero_copy import Weights, join_weights, split_weights
from models.zero_shot import Prompts, zero_shot_head

ROOT = Path(__file__).resolve().parent.parent

BOUNDARIES = 2
"""Goes up when the features at a boundary change; those cached before are not used then."""

UNLOADABLE = (
    *(RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, ImportError),
    *(AssertionError, EOFError, StopIteration, UnpicklingError, SafetensorError),
)
"""What open_clip raises when a configuration or checkpoint is broken or is not one."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder with its own preprocessing, and the text tower's classifier if prompts were given.

    `fingerprint` changes with any weight of the image tower and with the preprocessing.
    """

    encoder: Encoder
    preprocess: Callable[[Image.Image], Tensor]
    fingerprint: str
    zero_shot: LinearHead | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle so that processes share the encoder's weights (models/zero_copy.py)."""
        rest = self.preprocess, self.fingerprint, self.zero_shot
        return _pretrained, (*split_weights(self.encoder), *rest)


def _pretrained(skeleton: Encoder, weights: Weights, *rest: Any) -> Pretrained:
    encoder = join_weights(skeleton, weights)
    assert isinstance(encoder, Encoder)
    return Pretrained(encoder, *rest)


def load_pretrained(
    config: ModelConfig, prompts: Prompts | None = None, cache: Path | None = None
) -> Pretrained:
    """Load the image tower on the CPU, in float32, and make a classifier of the text tower.

    No classifier is made without prompts; `cache` is a folder for classifiers, so that the text
    tower runs once.

    Raises:
        InputError: unknown name or tag, missing folder or file, weights that don't fit or cannot
            be downloaded, a tower without blocks, or a text tower that cannot be used.
    """
    name = _checked_name(config.name)
    options: dict[str, Any] = {}
    if not name.startswith(LOCAL_DIR):
        options = {"pretrained": _checked_tag(name, config.pretrained)}
        tag = open_clip.get_pretrained_cfg(name, config.pretrained or "") or {}
        # open_clip only warns where a tag's weights were trained with the other GELU.
        options["force_quick_gelu"] = bool(tag.get("quick_gelu", False))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, preprocess = open_clip.create_model_from_pretrained(name, **options)
    except UNLOADABLE as error:
        where = config.name if config.pretrained is None else f"{config.name}, {config.pretrained}"
        raise InputError(f"model: cannot load {where}: {one_line(error, 300)}") from error
    fingerprint = _fingerprint(model.visual)
    model.float()
    zero_shot = None
    if prompts is not None:
        try:
            zero_shot = zero_shot_head(model, name, prompts, cache)
        except UNLOADABLE as error:
            raise InputError(
                f"model: the text tower or tokenizer of {config.name} cannot be used, which "
                f"zero_shot needs ({one_line(error, 300)})"
            ) from error
    return Pretrained(split_tower(model.visual), preprocess, fingerprint, zero_shot)


def _checked_name(name: str) -> str:
    if not name.startswith(LOCAL_DIR):
        known = open_clip.list_models()
        name = name.replace("/", "-")  # as OpenAI writes them
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(
                f"model.name: unknown model {name!r}; {hint}allowed: local-dir:FOLDER or one of "
                f"open_clip's {len(known)} names, such as ViT-B-32"
            )
        return name
    folder = expanded(name.removeprefix(LOCAL_DIR), "model.name")
    # A relative folder that is not here may be the bundled one, seen from elsewhere.
    if not folder.is_absolute() and not folder.is_dir():
        folder = ROOT / folder
    for needed in ("", "open_clip_config.json"):
        if not (folder / needed).exists():
            raise InputError(
                f"model.name: {folder / needed} does not exist; local-dir: needs a folder with "
                "open_clip_config.json and weights"
            )
    return f"{LOCAL_DIR}{folder.resolve()}"


def _checked_tag(name: str, tag: str | None) -> str:
    tags = open_clip.list_pretrained_tags_by_model(name)
    allowed = f"allowed: a checkpoint's path, or {', '.join(tags) or 'no tags known'}"
    if tag is None:
        raise InputError(f"model.pretrained: {name} needs weights; {allowed}")
    if tag.lower().replace("-", "_") in {t.lower() for t in tags}:
        return tag
    file = expanded(tag, "model.pretrained")
    if not file.is_file():
        hint = did_you_mean(tag, tags)
        raise InputError(
            f"model.pretrained: {tag!r} is neither a file nor a tag of {name}; {hint}{allowed}"
        )
    return str(file)


def _fingerprint(tower: torch.nn.Module) -> str:
    """SHA-256 over the tower's weights, its modules' settings and its preprocessing."""
    digest = hashlib.sha256(f"{BOUNDARIES} {type(tower).__name__}".encode())
    digest.update(json.dumps(tower.preprocess_cfg, sort_keys=True, default=str).encode())
    # Activations, pooling and the number of attention heads leave no trace in the weights.
    digest.update(repr(tower).encode())
    for name, module in tower.named_modules():
        settings = {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, bool | int | float | str) and key != "training"
        }
        digest.update(f"{name} {sorted(settings.items())}".encode())
    for key, weight in sorted(tower.state_dict().items()):
        digest.update(f"{key} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().numpy().tobytes())
    return digest.hexdigest()
