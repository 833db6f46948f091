"""Image towers by timm's names, without a text tower: `timm:vit_small_patch14_dinov2.lvd142m`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import timm
import torch
from open_clip.timm_model import TimmModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from errors import InputError, did_you_mean, one_line, shown
from files import expanded
from models.checkpoints import check_finite, read_weights, weights_in
from models.config import LOCAL_DIR, TIMM, TIMM_CONFIG, ModelConfig
from models.hub import snapshot
from models.towers import family_of

LARGEST = 1 << 20  # bytes of that file
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
RESIZE_MODES = {"center": "shortest", "squash": "squash"}
"""What open_clip calls timm's ways to make an image square."""


class ImageTower(nn.Module):
    """What has an image tower, as a CLIP of open_clip has, and no text tower."""

    def __init__(self, visual: TimmModel) -> None:
        super().__init__()
        self.visual = visual


def timm_model(config: ModelConfig) -> tuple[ImageTower, Callable[[Any], Tensor], list[str]]:
    """Return a tower with its weights, its preprocessing, and what is assumed about it, in lines.

    The tower ends as timm's own `forward_head(x, pre_logits=True)` does. It is built without memory
    for weights first, so that whatever can be wrong is found before they are downloaded.

    Raises:
        InputError: unknown name or tag, a tower that cannot be split, or no weights to be had.
        ValueError: the weights are none, or another architecture's, or the folder is broken.
    """
    name = _checked_name(config.name.removeprefix(TIMM))
    with torch.device("meta"):
        skeleton = _built(name)
    family_of(skeleton)
    file = _file_of(name, config.pretrained, skeleton.trunk)
    if (weights := sum(w.numel() for w in skeleton.parameters())) > file.stat().st_size:
        raise ValueError(f"{weights} weights, and the file of them has fewer bytes")
    tower = _built(name)
    _fill(tower.trunk, file)
    preprocessing = resolve_model_data_config(tower.trunk)
    if config.image_size is not None:
        tower.set_input_size(config.image_size)
        preprocessing["input_size"] = (3, *tower.image_size)
    tower.preprocess_cfg = {
        "size": [*tower.image_size],
        "mode": "RGB",
        **{key: [*map(float, preprocessing[key])] for key in ("mean", "std")},
        "interpolation": preprocessing["interpolation"],
        "resize_mode": RESIZE_MODES[preprocessing["crop_mode"]],
        "fill_color": 0,
        "crop_pct": preprocessing["crop_pct"],
    }
    assumed = []
    if config.pretrained is not None and "." not in name:
        tag = tower.trunk.pretrained_cfg.get("tag") or "the architecture"
        assumed = [
            f"{config.name} with weights from a file gets the preprocessing of timm's {tag}; "
            "for that of another tag write NAME.TAG"
        ]
    return ImageTower(tower), create_transform(**preprocessing), assumed


def _checked_name(name: str) -> str:
    """Write a name as timm takes it.

    Raises:
        InputError: there is no such model.
        ValueError: the configuration in a folder is broken.
    """
    if name.startswith(LOCAL_DIR):
        folder = expanded(name.removeprefix(LOCAL_DIR), "model.name").resolve()
        if not (folder / TIMM_CONFIG).is_file():
            raise InputError(
                f"model.name: {folder / TIMM_CONFIG} does not exist; {TIMM}{LOCAL_DIR} needs a "
                f"folder with {TIMM_CONFIG} and weights, as timm writes them"
            )
        check_timm_config(folder)
        return f"{LOCAL_DIR}{folder}"
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise InputError(
            f"model.name: timm has no model {shown(architecture)}; "
            f"{did_you_mean(architecture, timm.list_models())}allowed: one of timm's names, such "
            f"as {TIMM}vit_small_patch14_dinov2.lvd142m"
        )
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise InputError(
            f"model.name: {architecture} has no tag {shown(tag)}; {did_you_mean(tag, tags)}"
            f"allowed: {', '.join(tags) or 'none, with model.pretrained: FILE'}"
        )
    return name


Side = Annotated[int, Field(ge=8, le=10_000)]


class _Data(BaseModel):
    """The parts of a `pretrained_cfg` that a tower is built and fed by; others do nothing here."""

    model_config = ConfigDict(extra="ignore")

    input_size: tuple[Literal[3], Side, Side] | None = None
    interpolation: Literal["bicubic", "bilinear", None] = None
    crop_pct: Annotated[float | None, Field(gt=0, le=1)] = None
    crop_mode: Literal["center", "squash", None] = None
    mean: tuple[float, float, float] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, min_length=3, max_length=3)


class _Folder(BaseModel):
    """A `config.json` as timm writes it."""

    model_config = ConfigDict(extra="ignore")

    architecture: str
    model_args: dict[str, Any] = {}
    pretrained_cfg: _Data


def check_timm_config(folder: Path) -> None:
    """Check the sizes and the preprocessing in a folder of timm's.

    Raises:
        ValueError: the file is not such a configuration; says which option.
        OSError: it cannot be read.
    """
    with (folder / TIMM_CONFIG).open("rb") as file:
        text = file.read(LARGEST + 1)
    try:
        found = _Folder.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{TIMM_CONFIG}: {place}: {first['msg']}") from None
    if not timm.is_model(found.architecture):
        raise ValueError(f"{TIMM_CONFIG}: architecture: timm has no {shown(found.architecture)}")
    numbers = json.dumps(found.model_args)
    _check_numbers(json.loads(numbers), "model_args")


def _check_numbers(value: Any, place: str) -> None:
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            _check_numbers(inner, f"{place}.{key}")
    elif isinstance(value, int | float) and not -10_000 <= value <= 10_000:  # or not a number
        raise ValueError(f"{TIMM_CONFIG}: {place} is {shown(value)}; allowed: -10000 to 10000")


def _built(name: str) -> TimmModel:
    """Build a tower without pretrained weights; it has timm's own pooling and no projection."""
    tower = TimmModel(name, embed_dim=1, pool="")
    tower.head = nn.Sequential()
    _, *size = resolve_model_data_config(tower.trunk)["input_size"]
    tower.image_size = tuple(size)
    return tower


def _file_of(name: str, pretrained: str | None, trunk: Any) -> Path:
    """Find or download the file of weights.

    Raises:
        InputError: there is none.
    """
    if name.startswith(LOCAL_DIR):
        return weights_in(Path(name.removeprefix(LOCAL_DIR)))
    if pretrained is not None:
        file = expanded(pretrained, "model.pretrained")
        if not file.is_file():
            raise InputError(
                f"model.pretrained: {file} is no file; allowed: null for the weights of timm's "
                f"tag, a part of the name, as in {TIMM}vit_small_patch14_dinov2.lvd142m, or a file"
            )
        return file
    instead = f"a file of weights is taken as well: --model {TIMM}{name}:FILE, or model.pretrained"
    if not (repository := trunk.pretrained_cfg.get("hf_hub_id")):
        raise InputError(f"model: timm has no weights of {name}; {instead}")
    folder = snapshot(repository, WEIGHTS, instead)
    return folder / next((file for file in WEIGHTS if (folder / file).is_file()), WEIGHTS[0])


def _fill(trunk: Any, file: Path) -> None:
    """Load a file of weights without its classifier.

    Raises:
        ValueError: they are none, or not those of this architecture.
    """
    weights, keys = read_weights(file)
    # The function that timm renames older files' keys with, by timm's own convention.
    renamed = getattr(sys.modules[type(trunk).__module__], "checkpoint_filter_fn", None)
    if renamed is not None:
        weights = renamed(weights, trunk)
    classifier = trunk.pretrained_cfg.get("classifier") or ()
    dropped = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {k: w for k, w in weights.items() if k.rpartition(".")[0] not in dropped}
    try:
        trunk.load_state_dict(kept)
    except RuntimeError as error:
        text = str(error).partition(":")[2]
        raise ValueError(f"{one_line(' '.join(text.split()), 150)}{keys}") from None
    check_finite(trunk.state_dict())
