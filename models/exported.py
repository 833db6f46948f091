"""Adapted models in files: what was trained, and what it takes to run it.

    from models.exported import load_adapted
    model = load_adapted(Path("results/food/winners/100-llrd-seed0.safetensors"))
    probabilities = model.classify([Image.open("lunch.jpg")])  # (1, C), over model.classes

A file holds the trained weights alone, in float32, and a description in its header. The rest of
the encoder is loaded as it was for the search.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from errors import InputError, one_line
from models.classifier import Classifier, build_classifier
from models.config import ModelConfig, PrecisionName
from models.device import Device, available_device
from models.encoder import PIXELS
from models.fit import Fit
from models.loading import load_pretrained
from models.recipe import Recipe
from models.selection import select

HEADER = "clip_adaptation_search"


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
    save_file(dict(weights), path, metadata={HEADER: description.model_dump_json()})


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
            header = json.loads((file.metadata() or {})[HEADER])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Description.model_validate(header), weights
    except KeyError:
        raise InputError(f"{path}: not an adapted model of this project") from None
    except (OSError, SafetensorError, ValidationError, ValueError) as error:
        reason = one_line(error)
        raise InputError(f"{path}: cannot be read as an adapted model ({reason})") from None


@dataclass(frozen=True)
class Adapted:
    """An adapted model, from images to probabilities over `classes`."""

    classes: tuple[str, ...]
    temperature: float
    _classifier: Classifier
    _preprocess: Callable[[Image.Image], Tensor]
    _device: Device

    @torch.no_grad()
    def classify(self, images: Sequence[Image.Image]) -> Tensor:
        """Compute the class probabilities (n, C) of RGB images, on the CPU.

        They are calibrated: logits are divided by the `temperature` that made the labels of the
        validation images likeliest. It is 1 in files of before, which changes nothing.
        """
        pixels = torch.stack([self._preprocess(image) for image in images])
        self._classifier.eval()
        with self._device.autocast():
            embeddings = self._classifier.embed(pixels.to(self._device.torch))
        logits: Tensor = self._classifier.head(embeddings.float())[0]
        return (logits / self.temperature).softmax(-1).cpu()


def load_adapted(path: Path) -> Adapted:
    """Load an adapted model, with its encoder, to the GPU if there is one.

    Raises:
        InputError: the file cannot be read, or the encoder is not the one it was trained on.
    """
    description, weights = load_exported(path)
    pretrained = load_pretrained(description.model)
    if pretrained.fingerprint != description.fingerprint:
        raise InputError(
            f"{path}: was trained on other weights of {description.model.name} than are there now"
        )
    device = Device(available_device())
    try:
        selection = select(description.recipe, pretrained.encoder)
        classifier = build_classifier(pretrained.encoder, selection, PIXELS, weights, device)
    except ValueError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    return Adapted(
        description.classes,
        description.temperature or 1.0,
        classifier,
        pretrained.preprocess,
        device,
    )
