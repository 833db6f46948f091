"""The files of a package: written from a winner's weights, and read back."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from errors import InputError, one_line
from files import READABLE, new_folder
from models.deltas import from_deltas
from models.exported import (
    Adapted,
    AdaptedModel,
    adapted_model,
    load_exported,
)
from models.head import LinearHead
from models.loading import load_whole
from models.package.card import Card
from models.package.forms import OPEN_CLIP_FORM, TIMM_FORM, Form, contiguous, write_json
from models.package.onnx_file import write_onnx
from models.selection import select

CLASSIFIER = "classifier.safetensors"
CLASSES = "classes.json"
PREPROCESS = "preprocess.json"
ONNX = "model.onnx"
README = "README.md"
SCRIPTS = ("predict.py", "photos.py")
SUMS = "SHA256SUMS"


@torch.no_grad()
def write_package(folder: Path, weights_file: Path, card: Card) -> None:
    """Write a package whole or not at all; `folder` is not there yet, or is empty.

    Raises:
        InputError: the weights cannot be read, or their encoder is not there any more.
    """
    description, weights = load_exported(weights_file)
    if description.model.concat is not None:
        raise InputError(
            f"{weights_file}: a package is of one encoder, and these weights are of several, "
            f"{description.model.name}; allowed: run_search.py predict, which classifies with them"
        )
    form = OPEN_CLIP_FORM if description.model.reads_text else TIMM_FORM
    pretrained, whole = load_whole(description.model)
    form.check(description.model, whole, weights_file)
    encoder = pretrained.encoder
    model = adapted_model(weights_file, description, weights, pretrained)
    selection = select(description.recipe, encoder)
    weights = from_deltas(weights, description.scales, selection, encoder)
    for trained in selection.parameters:
        parameter = encoder.group(trained.group).get_parameter(trained.name)
        parameter.copy_(weights[trained.key])
    with new_folder(folder) as place:
        beside = form.write(description, whole, place)
        # The embedding has length 1 there, and sqrt(d) here.
        scaled = {"weight": model.weight * math.sqrt(encoder.dim), "bias": model.bias} | beside
        save_file(contiguous(scaled), place / CLASSIFIER, metadata={"apply": form.applied})
        write_json(place / CLASSES, list(description.classes))
        how = form.preprocessing(whole)
        write_json(place / PREPROCESS, how)
        height, width = how["size"]
        write_onnx(model, (height, width), place / ONNX)
        for script in SCRIPTS:
            shutil.copyfile(Path(__file__).with_name(script), place / script)
        text = card.text(description, (height, width), form.use + form.texts(description, place))
        (place / README).write_text(text, encoding="utf-8")
        _write_sums(place)
        for file in place.iterdir():  # safetensors writes for the owner alone
            file.chmod(READABLE)


def load_package(folder: Path) -> Adapted:
    """Load the model of a package, to the GPU if there is one.

    Raises:
        InputError: a file is damaged, does not fit the others, or is not the one that was exported.
    """
    form = OPEN_CLIP_FORM if (folder / OPEN_CLIP_FORM.config).is_file() else TIMM_FORM
    _check_sums(folder, form)
    try:
        beside = load_file(folder / CLASSIFIER)
        weight, bias = beside.pop("weight"), beside.pop("bias")
        classes = tuple(json.loads((folder / CLASSES).read_text(encoding="utf-8")))
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder}: damaged, or no exported model ({one_line(error)})") from None
    pretrained = form.load(folder, beside)
    encoder = pretrained.encoder
    fits = weight.shape == (len(classes), encoder.dim) and bias.shape == (len(classes),)
    if not fits or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{folder}: {CLASSIFIER} does not fit {CLASSES} or {form.config}")
    head = LinearHead(weight / math.sqrt(encoder.dim), bias)
    model = AdaptedModel(nn.Sequential(*encoder.groups), head)
    return Adapted(classes, model, pretrained.preprocess, pretrained.size)


def _write_sums(folder: Path) -> None:
    """Write the SHA-256 of each file, as sha256sum does, by which swapped files are known."""
    files = sorted(file for file in folder.iterdir() if file.name not in (README, *SCRIPTS))
    lines = [f"{_sha256(file)}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _check_sums(folder: Path, form: Form) -> None:
    """Raise InputError for a file that the package reads and that was changed since its export."""
    if not (folder / SUMS).is_file():  # an export of before
        return
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in (form.config, CLASSES, CLASSIFIER, form.weights):
        file = folder / name
        if file.is_file() and sums.get(name) != _sha256(file):
            raise InputError(
                f"{file} is not the one that was exported, by {SUMS}; put it back, or export again"
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
