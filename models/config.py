"""The settings of the encoder and of augmentation in an experiment. Imports no torch."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from errors import InputError, did_you_mean, shown
from files import expanded
from sections import Section

LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
TIMM = "timm:"
CONFIG = "open_clip_config.json"
TIMM_CONFIG = "config.json"
HUB_NAME = re.compile(rf"{HUB}[\w.-]+/[\w.-]+")
ENDINGS = {".pt", ".pth", ".bin", ".safetensors", ".ckpt"}
"""What the names of files of weights end in, and no tag does."""
ROOT = Path(__file__).resolve().parents[1]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(gt=0)]
NAMES: dict[str, Any] = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "null"},
    ]
}


class ModelConfig(Section):
    """The encoder, and the type that its matrix products run in."""

    name: str = Field(
        f"{LOCAL_DIR}models/glyph_clip",
        description="open_clip model, local-dir:FOLDER, hf-hub:ORG/NAME, or timm:NAME, which has "
        "no text tower",
    )
    pretrained: str | None = Field(None, description="open_clip tag, or path of a checkpoint")
    image_size: int | None = Field(
        None,
        ge=8,
        le=10_000,
        description="side of the square that images become, where position embeddings can be "
        "resized; null: the model's own",
    )
    precision: PrecisionName = Field(
        "auto",
        description="of matrix products; auto: bfloat16 on GPUs that have it, float16 on others, "
        "float32 on CPUs",
    )
    concat: Annotated[tuple[str | ModelConfig, ...] | None, WithJsonSchema(NAMES)] = Field(
        None,
        description="instead of all these, in models: names of others there, whose embeddings, "
        "each made a unit vector, are one encoder side by side; it has probes alone",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_parts(cls, given: Any) -> Any:
        parts = given.get("concat") if isinstance(given, dict) else None
        if not isinstance(parts, list | tuple):
            return given
        names = [part.get("name") if isinstance(part, dict) else part for part in parts]
        return {"name": " + ".join(map(str, names))} | given

    @field_validator("concat", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        if given is None:
            return None
        listed = isinstance(given, list | tuple)
        if not listed or not all(isinstance(part, str | dict | ModelConfig) for part in given):
            raise ValueError(f"{shown(given)} is no list of names; allowed: [NAME, NAME], or null")
        if len(given) < 2:
            raise ValueError(f"{shown(given)}: one encoder alone is joined with none; name two")
        return given

    @model_validator(mode="after")
    def _weights_of_one_place(self) -> ModelConfig:
        own = (LOCAL_DIR, HUB, f"{TIMM}{LOCAL_DIR}")
        if self.pretrained is not None and self.name.startswith(own):
            raise ValueError(
                f"pretrained: {self.pretrained!r}, but {self.name} has weights of its own; "
                "allowed: null, or an open_clip name"
            )
        return self

    @property
    def reads_text(self) -> bool:
        """Whether it has a text tower, or all have whose embeddings are joined."""
        if self.concat is not None:
            return all(part.reads_text for part in self.joined)
        return not self.name.startswith(TIMM)

    @property
    def joined(self) -> tuple[ModelConfig, ...]:
        """The encoders whose embeddings are joined, once `models` has said what they are."""
        return tuple(part for part in self.concat or () if isinstance(part, ModelConfig))

    @property
    def anchored(self) -> Self:
        """The same model by absolute paths, which mean the same from any folder.

        The bundled one is found from everywhere, in any checkout.
        """
        if self.concat is not None:
            parts = (p.anchored if isinstance(p, ModelConfig) else p for p in self.concat)
            return self.model_copy(update={"concat": tuple(parts)})
        found = {}
        if self.pretrained is not None:
            file = expanded(self.pretrained, "model.pretrained")
            if file.is_file():
                found["pretrained"] = str(file.absolute())
        kind, colon, place = self.name.rpartition(LOCAL_DIR)
        if colon:
            folder = expanded(place, "model.name").absolute()
            if folder.is_dir() and not (ROOT / place).is_dir():
                found["name"] = f"{kind}{LOCAL_DIR}{folder}"
        return self.model_copy(update=found)


def check_places(model: ModelConfig, key: str = "model") -> None:
    """Check what a model's name and weights say of files; needs no torch, and no network.

    Raises:
        InputError: a file or folder is missing, or the name is of no possible model; `key` is the
            section that it names.
    """
    if model.name.startswith(HUB) and not HUB_NAME.fullmatch(model.name):
        raise InputError(f"{key}.name: {shown(model.name)}; allowed: {HUB}ORG/NAME")
    if model.name == TIMM:
        raise InputError(f"{key}.name: {TIMM} names no model; allowed: {TIMM}NAME")
    if local_folder(model.name, f"{key}.name") is None and not model.name.startswith((HUB, TIMM)):
        listed_name(model.name, f"{key}.name")
    if model.pretrained is not None and Path(model.pretrained).suffix in ENDINGS:
        file = expanded(model.pretrained, f"{key}.pretrained")
        if not file.is_file():
            raise InputError(f"{key}.pretrained: {file} is no file")


def listed_name(name: str, key: str = "model.name") -> str:
    """Write a model's name as open_clip lists it; it may be as OpenAI writes it.

    Raises:
        InputError: open_clip has no such model; `key` names it.
    """
    known = open_clip_models()
    cleaned = name.replace("/", "-")
    if cleaned in known:
        return cleaned
    if ":" in name:
        raise InputError(
            f"{key}: {shown(name)}: of no known kind; allowed: an open_clip name, "
            f"{LOCAL_DIR}FOLDER ({CONFIG} and weights), {HUB}ORG/NAME, or {TIMM}NAME"
        )
    hint = did_you_mean(cleaned, known)
    raise InputError(
        f"{key}: unknown model {shown(name)}; {hint}allowed: local-dir:FOLDER, "
        f"{HUB}ORG/NAME, {TIMM}NAME or one of open_clip's {len(known)} names, such as ViT-B-32"
    )


def open_clip_models() -> list[str]:
    """List open_clip's models; by the files that describe them, as importing it takes seconds."""
    if loaded := sys.modules.get("open_clip"):  # the user's own code may have added some
        return list(loaded.list_models())
    package = find_spec("open_clip")
    folders = (package.submodule_search_locations or ()) if package else ()
    return sorted(
        file.stem for each in folders for file in Path(each, "model_configs").glob("*.json")
    )


def local_folder(name: str, key: str = "model.name") -> Path | None:
    """Find the folder of a `local-dir:` model; None for a model of another kind.

    A relative folder that is not here may be the bundled one, seen from elsewhere.

    Raises:
        InputError: there is no such folder, or no configuration in it; `key` names the model.
    """
    if not name.startswith(LOCAL_DIR):
        return None
    folder = expanded(name.removeprefix(LOCAL_DIR), key)
    if not folder.is_absolute() and not folder.is_dir() and (ROOT / folder).is_dir():
        folder = ROOT / folder
    for needed in ("", CONFIG):
        if not (folder / needed).exists():
            raise InputError(
                f"{key}: {folder / needed} does not exist; local-dir: needs a folder with "
                f"{CONFIG} and weights"
            )
    return folder.resolve()


class AugmentationConfig(Section):
    """The ways in which an augmented copy differs from its image.

    Attributes:
        scale: the least and the largest share of the image's area that a random crop keeps.
        ratio: the narrowest and the widest aspect of the crop.
        flip: probability of a mirror image; 0 where left and right mean something.
        color_jitter: strength of random brightness, contrast and saturation; 0 for none.
    """

    scale: tuple[Share, Share] = (0.5, 1.0)
    ratio: tuple[Aspect, Aspect] = (0.75, 4 / 3)
    flip: float = Field(0.5, ge=0, le=1)
    color_jitter: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name}: {low:g} to {high:g}: the lesser value comes first")
        return self
