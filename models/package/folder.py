"""The files of a package: written from a winner's weights, and read back."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import QuickGELU
from open_clip.timm_model import TimmModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from errors import InputError, one_line
from files import READABLE, new_folder
from models.config import CONFIG, LOCAL_DIR, ModelConfig
from models.deltas import from_deltas
from models.exported import (
    Adapted,
    AdaptedModel,
    Description,
    adapted_model,
    load_exported,
)
from models.head import LinearHead
from models.loading import UNLOADABLE, load_pretrained, load_whole, open_clip_name, quietly
from models.package.card import Card
from models.package.onnx_file import write_onnx
from models.selection import select

WEIGHTS = "open_clip_model.safetensors"
CLASSIFIER = "classifier.safetensors"
CLASSES = "classes.json"
PREPROCESS = "preprocess.json"
ONNX = "model.onnx"
README = "README.md"
SCRIPTS = ("predict.py", "photos.py")
SUMS = "SHA256SUMS"
APPLIED = "softmax(weight @ embedding + bias), of model.encode_image(pixels, normalize=True)"


@torch.no_grad()
def write_package(folder: Path, weights_file: Path, card: Card) -> None:
    """Write a package whole or not at all; `folder` is not there yet, or is empty.

    Raises:
        InputError: the weights cannot be read, or their encoder is not there any more.
    """
    description, weights = load_exported(weights_file)
    if not description.model.reads_text:
        raise InputError(
            f"{weights_file}: a package is an open_clip model, and {description.model.name} has no "
            "text tower; allowed: run_search.py predict, which classifies with these weights"
        )
    pretrained, whole = load_whole(description.model)
    if description.model.image_size is not None and isinstance(whole.visual, TimmModel):
        raise InputError(
            f"{weights_file}: open_clip loads towers of timm for images of their own size alone; "
            "allowed: a run without model.image_size"
        )
    encoder = pretrained.encoder
    model = adapted_model(weights_file, description, weights, pretrained)
    selection = select(description.recipe, encoder)
    weights = from_deltas(weights, description.scales, selection, encoder)
    for trained in selection.parameters:
        parameter = encoder.group(trained.group).get_parameter(trained.name)
        parameter.copy_(weights[trained.key])
    with new_folder(folder) as place:
        save_file(_contiguous(whole.state_dict()), place / WEIGHTS)
        _write_json(place / CONFIG, _config(description, whole))
        has_tokenizer = _save_tokenizer(description, place)
        # open_clip's embedding has length 1, and ours sqrt(d).
        scaled = {"weight": model.weight * math.sqrt(encoder.dim), "bias": model.bias}
        save_file(_contiguous(scaled), place / CLASSIFIER, metadata={"apply": APPLIED})
        _write_json(place / CLASSES, list(description.classes))
        preprocessing = _preprocessing(whole)
        _write_json(place / PREPROCESS, preprocessing)
        height, width = preprocessing["size"]
        write_onnx(model, (height, width), place / ONNX)
        for script in SCRIPTS:
            shutil.copyfile(Path(__file__).with_name(script), place / script)
        text = card.text(description, (height, width), has_tokenizer)
        (place / README).write_text(text, encoding="utf-8")
        _write_sums(place)
        for file in place.iterdir():  # safetensors writes for the owner alone
            file.chmod(READABLE)


def load_package(folder: Path) -> Adapted:
    """Load the model of a package, to the GPU if there is one.

    Raises:
        InputError: a file is damaged, does not fit the others, or is not the one that was exported.
    """
    _check_sums(folder)
    try:
        with safe_open(folder / CLASSIFIER, "pt") as file:
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        classes = tuple(json.loads((folder / CLASSES).read_text(encoding="utf-8")))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: damaged, or no exported model ({one_line(error)})") from None
    pretrained = load_pretrained(ModelConfig(name=f"{LOCAL_DIR}{folder.absolute()}"))
    encoder = pretrained.encoder
    fits = weight.shape == (len(classes), encoder.dim) and bias.shape == (len(classes),)
    if not fits or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{folder}: {CLASSIFIER} does not fit {CLASSES} or {CONFIG}")
    head = LinearHead(weight / math.sqrt(encoder.dim), bias)
    model = AdaptedModel(nn.Sequential(*encoder.groups), head)
    return Adapted(classes, model, pretrained.preprocess, pretrained.size)


def _write_sums(folder: Path) -> None:
    """Write the SHA-256 of each file, as sha256sum does, by which swapped files are known."""
    files = sorted(file for file in folder.iterdir() if file.name not in (README, *SCRIPTS))
    lines = [f"{_sha256(file)}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _check_sums(folder: Path) -> None:
    """Raise InputError for a file that the package reads and that was changed since its export."""
    if not (folder / SUMS).is_file():  # an export of before
        return
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in (CONFIG, CLASSES, CLASSIFIER, WEIGHTS):
        file = folder / name
        if file.is_file() and sums.get(name) != _sha256(file):
            raise InputError(
                f"{file} is not the one that was exported, by {SUMS}; put it back, or export again"
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _config(description: Description, model: open_clip.CLIP) -> dict[str, Any]:
    """Return what open_clip builds the model from."""
    tree = dict(open_clip.get_model_config(open_clip_name(description.model.name)))
    if any(isinstance(module, QuickGELU) for module in model.modules()):
        tree["quick_gelu"] = True  # a tag may ask for it
    vision = tree["vision_cfg"] = dict(tree["vision_cfg"])
    if description.model.image_size is not None:
        vision["image_size"] = description.model.image_size
    if isinstance(model.visual, TimmModel) and hasattr(model.visual.head, "proj"):
        vision["timm_proj"] = "linear"  # or it had none
    return {"model_cfg": tree, "preprocess_cfg": model.visual.preprocess_cfg}


def _preprocessing(model: open_clip.CLIP) -> dict[str, Any]:
    """Return how images become pixels, for programs without open_clip."""
    found = dict(model.visual.preprocess_cfg)
    size = found["size"]
    square = [size, size] if isinstance(size, int) else [*size]
    return {**found, "size": square}


def _save_tokenizer(description: Description, folder: Path) -> bool:
    """Save the tokenizer where it is not open_clip's own; return whether none is missing."""
    try:
        with quietly():
            tokenizer = open_clip.get_tokenizer(open_clip_name(description.model.name))
            if hasattr(tokenizer, "save_pretrained"):
                tokenizer.save_pretrained(folder)
    except UNLOADABLE:
        return False
    return True


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors, as safetensors takes none that share memory."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
