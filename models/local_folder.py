"""The open_clip_config.json of a `local-dir:`, checked before a model is built from it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from errors import did_you_mean, shown
from models.config import CONFIG

LARGEST = 1 << 20  # bytes of the file
MOST = {"layers": 1000, "image_size": 10_000}
MOST_ELSEWHERE = 1_000_000
SIZES = {
    *("embed_dim", "width", "layers", "heads", "head_width", "patch_size", "image_size"),
    *("context_length", "vocab_size", "attn_pooler_queries", "attn_pooler_heads"),
}
"""The options that count something, so that 0 makes no sense."""
OPTIONS = {
    section: tuple(field.name for field in dataclasses.fields(kind))
    for section, kind in {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}.items()
}

Channels = BeforeValidator(lambda value: value if isinstance(value, list) else [value] * 3)
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Preprocessing(BaseModel):
    """The `preprocess_cfg`; whatever is not given is CLIP's own."""

    model_config = ConfigDict(extra="forbid")

    size: Any = None  # open_clip's own, which the model's image_size follows
    mode: Literal["RGB"] = "RGB"
    mean: Annotated[tuple[Finite, Finite, Finite] | None, Channels] = None
    std: Annotated[tuple[Positive, Positive, Positive] | None, Channels] = None
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = Field(0, ge=0, le=255)


def check_config(folder: Path) -> list[str]:
    """Check sizes, preprocessing, and that nothing is fetched; return what is assumed, in lines.

    Raises:
        ValueError: the file is not such a configuration; says which option, and what is allowed.
        OSError: it cannot be read.
    """
    with (folder / CONFIG).open("rb") as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"{CONFIG} has more than {LARGEST} bytes")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG} is not JSON: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("model_cfg"), dict):
        raise ValueError(f"{CONFIG} has no model_cfg with options in it")
    for section, known in OPTIONS.items():
        _check_names(tree["model_cfg"].get(section), section, known)
    for name, value in tree["model_cfg"].items():
        _check_option(value, name, name)
    preprocessing = tree.get("preprocess_cfg")
    if preprocessing is None:
        preprocessing = {}
    _check_names(preprocessing, "preprocess_cfg", tuple(_Preprocessing.model_fields))
    given = {k: v for k, v in preprocessing.items() if v is not None}
    try:
        _Preprocessing.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("preprocess_cfg", *first["loc"])))
        raise ValueError(
            f"{CONFIG}: {place}: {first['msg']}, got {shown(first['input'])}"
        ) from None
    if {"mean", "std"} <= set(given):
        return []
    return [f"{CONFIG} has no preprocess_cfg with mean and std, so CLIP's own are assumed"]


def _check_names(section: Any, place: str, known: Collection[str]) -> None:
    """Check that a section holds options, and no others than are known."""
    if section is None and place == "text_cfg":
        return  # of an image tower alone
    if not isinstance(section, dict):
        raise ValueError(f"{CONFIG}: {place} is {shown(section)}; allowed: options and values")
    for name in section:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f"{CONFIG}: {place} has no option {shown(name)}; {hint}see open_clip")


def _check_option(value: Any, name: str, place: str) -> None:
    """Check an option of the model, and those inside it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_option(inner, key, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _check_option(inner, name, place)
    elif name in SIZES and value is not None and (isinstance(value, bool | str)):
        raise ValueError(f"{CONFIG}: {place} is {shown(value)}; allowed: a number")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        least, most = (1 if name in SIZES else -math.inf), MOST.get(name, MOST_ELSEWHERE)
        if not least <= value <= most:  # or not a number
            raise ValueError(f"{CONFIG}: {place} is {shown(value)}; allowed: {least} to {most}")
    elif name == "timm_model_name" and value is not None and not timm.is_model(str(value)):
        raise ValueError(
            f"{CONFIG}: {place} is {shown(value)}; allowed: a name of timm's models, "
            "which needs no network"
        )
    elif name == "hf_model_name" and value is not None and not Path(str(value)).is_dir():
        raise ValueError(
            f"{CONFIG}: {place} is {shown(value)}, which would be fetched from a network; "
            "allowed: a folder, or open_clip's own text towers"
        )
    if name == "trust_remote_code" and value:
        raise ValueError(f"{CONFIG}: {place} would run a tokenizer's code; allowed: false")
