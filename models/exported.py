"""Adapted models in files: what was trained, and what it takes to run it.

    from models.exported import load_adapted
    model = load_adapted(Path("results/food/winners/100-llrd-seed0.safetensors"))
    probabilities = model.classify([Image.open("lunch.jpg")])  # (1, C), over model.classes

A file holds the trained weights alone, whole or as differences (`models/deltas.py`), and a
description in its header. The rest of the encoder is loaded as it was for the search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from errors import InputError, one_line
from models.classifier import Classifier, build_classifier
from models.config import ModelConfig, PrecisionName
from models.deltas import from_deltas
from models.device import Device, usable_device
from models.encoder import PIXELS, Encoder
from models.fit import Fit
from models.head import LinearHead
from models.loading import Pretrained, load_pretrained
from models.recipe import Recipe
from models.selection import select

HEADER = "clip_adaptation_search"
DIGEST = "sha256"


class Description(BaseModel):
    """The header of a file of weights.

    Attributes:
        boundary: where the fit was fed from.
        fingerprint: of the encoder's weights and preprocessing.
        precision: the type that matrix products ran in.
        classes: names, by class id.
        about: partition, method, seed and whatever else is of interest.
        temperature: what logits are divided by before they become probabilities; None in files of
            before.
        scales: of weights that are stored as differences; none if all are whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    boundary: str
    model: ModelConfig
    fingerprint: str
    precision: PrecisionName
    classes: tuple[str, ...]
    about: dict[str, Any] = {}
    temperature: PositiveFloat | None = None
    scales: dict[str, NonNegativeFloat] = {}


def exported_weights(fit: Fit) -> dict[str, Tensor]:
    """Copy a fit's best weights: the trained ones by key, LoRA merged, and the best head.

    Raises:
        RuntimeError: the fit diverged.
    """
    head = fit.restore_best()
    weights = {key: weight.clone() for key, weight in fit.model.merged().items()}
    weights |= {"head/weight": head.weight, "head/bias": head.bias}
    return {key: weight.cpu() for key, weight in weights.items()}


def save_exported(path: Path, description: Description, weights: Mapping[str, Tensor]) -> None:
    """Write the weights that `exported_weights` gives."""
    text = description.model_dump_json()
    # In one entry, as safetensors writes several in any order.
    header = json.dumps({DIGEST: _digest(text, weights), "description": text})
    save_file(dict(weights), path, metadata={HEADER: header})


def is_exported(path: Path) -> bool:
    """Whether a file is there and as long as its header says; no weights are read."""
    try:
        with safe_open(path, "pt") as file:
            return HEADER in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def load_exported(path: Path) -> tuple[Description, dict[str, Tensor]]:
    """Read what `save_exported` wrote.

    Raises:
        InputError: the file is missing, damaged, or not of this project.
    """
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {})[HEADER]
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tree = json.loads(header)
        if DIGEST not in tree:  # of an earlier version
            return Description.model_validate(tree), weights
        if tree[DIGEST] != _digest(tree["description"], weights):
            raise ValueError("damaged: its content is not what was written")
        return Description.model_validate_json(tree["description"]), weights
    except KeyError:
        raise InputError(f"{path}: not an adapted model of this project") from None
    except (OSError, SafetensorError, ValidationError, ValueError) as error:
        reason = one_line(error)
        raise InputError(f"{path}: cannot be read as an adapted model ({reason})") from None


def check_origin(path: Path, about: Mapping[str, Any]) -> None:
    """Check by the header that a file holds the weights that `about` describes.

    Raises:
        InputError: it holds those of another winner.
    """
    try:
        with safe_open(path, "pt") as file:
            tree = json.loads((file.metadata() or {})[HEADER])
        found = Description.model_validate_json(tree["description"]).about if DIGEST in tree else {}
    except (OSError, SafetensorError, KeyError, ValueError):
        return  # reading it says why
    other = {name: found[name] for name in about if name in found and found[name] != about[name]}
    if other:
        of = "{partition}/{method}, seed {seed}".format(**{**about, **other})
        fit = "another fit of " * ([*other] == ["test_accuracy"])
        raise InputError(f"{path} holds the weights of {fit}{of}; put the file back that was there")


def _digest(header: str, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class AdaptedModel(nn.Module):
    """An adapted encoder with its head, from pixels (n, 3, height, width) to probabilities (n, C).

    `embed` maps pixels to embeddings.
    """

    def __init__(self, embed: nn.Module, head: LinearHead) -> None:
        super().__init__()
        self.embed = embed
        self.weight, self.bias = nn.Parameter(head.weight), nn.Parameter(head.bias)
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute the class probabilities."""
        logits: Tensor = F.linear(self.embed(pixels), self.weight, self.bias)
        return logits.softmax(-1)


@dataclass(frozen=True)
class Adapted:
    """An adapted model on the GPU, if there is one, from images to probabilities over `classes`.

    Attributes:
        preprocess: maps an RGB image to pixels (3, height, width).
        size: that height and width.
    """

    classes: tuple[str, ...]
    model: AdaptedModel
    preprocess: Callable[[Image.Image], Tensor]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        self.model.to(usable_device())

    def classify(self, images: Sequence[Image.Image]) -> Tensor:
        """Compute the class probabilities (n, C) of RGB images, on the CPU.

        They are calibrated: logits are divided by the `temperature` that made the labels of the
        validation images likeliest. It is 1 in files of before, which changes nothing.
        """
        return self.probabilities([self.preprocess(image) for image in images])

    @torch.no_grad()
    def probabilities(self, pixels: Sequence[Tensor]) -> Tensor:
        """Compute the class probabilities (n, C) of preprocessed images, on the CPU."""
        found: Tensor = self.model(torch.stack([*pixels]).to(self.model.weight.device))
        return found.cpu()


def load_adapted(path: Path) -> Adapted:
    """Load an adapted model, with its encoder, to the GPU if there is one.

    Raises:
        InputError: the file cannot be read, or the encoder is not the one it was trained on.
    """
    description, weights = load_exported(path)
    pretrained = load_pretrained(description.model)
    model = adapted_model(path, description, weights, pretrained)
    return Adapted(description.classes, model, pretrained.preprocess, pretrained.size)


def adapted_model(
    path: Path, description: Description, weights: Mapping[str, Tensor], pretrained: Pretrained
) -> AdaptedModel:
    """Build the model of a file's weights on a copy of its encoder.

    Raises:
        InputError: the encoder is not the one it was trained on, or the weights are not its
            recipe's.
    """
    if pretrained.fingerprint != description.fingerprint:
        raise InputError(
            f"{path}: was trained on other weights of {description.model.name} than are there now"
        )
    try:
        classifier = rebuilt(description, weights, pretrained.encoder, PIXELS, Device("cpu"))
    except ValueError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    return AdaptedModel(nn.Sequential(*classifier.groups), head_of(description, weights))


def rebuilt(
    description: Description,
    weights: Mapping[str, Tensor],
    encoder: Encoder,
    boundary: str,
    device: Device,
) -> Classifier:
    """Rebuild a classifier, fed from `boundary`, from what a file holds.

    Raises:
        ValueError: the weights are not the recipe's on this encoder.
    """
    selection = select(description.recipe, encoder)
    whole = from_deltas(weights, description.scales, selection, encoder)
    return build_classifier(encoder, selection, boundary, whole, device)


def head_of(description: Description, weights: Mapping[str, Tensor]) -> LinearHead:
    """Return the head whose logits become probabilities: the fit's, over its temperature."""
    temperature = description.temperature or 1.0
    return LinearHead(weights["head/weight"] / temperature, weights["head/bias"] / temperature)
