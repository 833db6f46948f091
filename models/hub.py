"""Weights and configurations from Hugging Face's hub, in the cache that its own library keeps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download

from errors import InputError, one_line, shown
from models.config import CONFIG, HUB, HUB_NAME

TOKENIZER = ("*.json", "*.txt", "*.model")
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def hub_folder(name: str) -> Path:
    """Return the folder of an `hf-hub:ORG/NAME` model, which is then loaded as any folder is.

    It has the configuration, the weights and what a tokenizer is made of, and no code.

    Raises:
        InputError: it is no such name, cannot be downloaded, or is no open_clip model.
    """
    repository = name.removeprefix(HUB)
    if not HUB_NAME.fullmatch(name):
        raise InputError(f"model.name: {shown(name)}; allowed: {HUB}ORG/NAME")
    instead = "a download is taken as well: --model local-dir:FOLDER"
    folder = snapshot(repository, WEIGHTS, instead, TOKENIZER)
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"model.name: {name} has no {CONFIG}; allowed: an open_clip model of the hub, or "
            "timm:NAME for a model of timm's"
        )
    return folder


def snapshot(
    repository: str, weights: Iterable[str], instead: str, beside: Iterable[str] = ()
) -> Path:
    """Have files of a repository in the cache; return their folder.

    Args:
        repository: ORG/NAME.
        weights: names of the file of weights; the first that is there is wanted.
        instead: what a message tells to do where there is no network.
        beside: patterns of the names of further files.

    Raises:
        InputError: they cannot be downloaded.
    """
    folder = Path()
    for file in weights:
        try:
            folder = Path(snapshot_download(repository, allow_patterns=[file, *beside]))
        except Exception as error:  # of any of the libraries that talk to a network
            raise InputError(
                f"model: {repository} cannot be downloaded ({one_line(error, 120)}); {instead}"
            ) from error
        if (folder / file).is_file():
            break
    return folder
