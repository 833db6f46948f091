"""Files of weights: what is in one, found out without running any code that it may hold."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from open_clip.factory import _find_checkpoint_in_dir
from safetensors.torch import load_file
from torch import Tensor

from errors import one_line

NUMPY = (".npz", ".npy")  # which open_clip reads as big_vision's SigLIP
WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
"""Keys of a training checkpoint's weights, first of those averaged over steps, if it has them."""
SETTINGS = {"input_resolution", "context_length", "vocab_size"}  # beside OpenAI's weights
COUNTS = {"position_ids", "num_batches_tracked", "attn_mask", "relative_position_index"}
"""The buffers, by the ends of their names, that hold whole numbers."""

_STATE_DICT = "which may run code; allowed: a file of the model's state_dict() alone"


@contextmanager
def readable(file: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file of the same weights that open_clip reads, and the first keys in it.

    It is `file` itself, or a temporary copy where the weights are wrapped, as in {"model": ...}.

    Raises:
        ValueError: these are no weights; says what kind of file it is.
        OSError: it cannot be read.
    """
    if file.suffix in NUMPY:
        yield file, ""
        return
    content = _content(file)
    weights, keys = _weights(content)
    if weights is content or weights is content.get("state_dict"):
        yield file, keys
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "weights.pt"
        torch.save(weights, copy)
        yield copy, keys


def weights_in(folder: Path) -> Path:
    """Find the file of weights in a folder; raises ValueError if there is none."""
    if (found := _find_checkpoint_in_dir(folder)) is None:
        raise ValueError("no weights in it; allowed: a .safetensors, .bin or .pth file")
    return Path(found)


def read_weights(file: Path) -> tuple[dict[str, Tensor], str]:
    """Return the weights in a file, and the first keys in it, as `readable` says them.

    Raises:
        ValueError: these are no weights; says what kind of file it is.
        OSError: it cannot be read.
    """
    return _weights(_content(file))


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError, which names the first, if weights are infinite or not numbers."""
    for key, weight in weights.items():
        if weight.numel() and not torch.stack(weight.float().aminmax()).isfinite().all():
            raise ValueError(f"the weights are broken: {key} holds NaN or infinite numbers")


def _weights(content: Any) -> tuple[dict[str, Tensor], str]:
    weights = _unwrapped(content)
    _check(weights)
    return weights, f"; the file's keys begin with {_first(weights)}"


def _content(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except UnpicklingError:  # its message recommends to run the file's code
        reason = f"holds Python objects, {_STATE_DICT}"
    except Exception as error:  # whatever a damaged file makes of its reader
        reason = f"cannot be read ({one_line(error)})"
    raise ValueError(f"the file {_kind(file) or reason}")


def _kind(file: Path) -> str:
    """Say what a file is that holds no weights alone; empty if that is not known."""
    with file.open("rb") as opened:
        head = opened.read(512)
    text = head.lstrip()
    if not head:
        return "is empty"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer; git lfs pull fetches the weights"
    if text.startswith((b"<!", b"<html", b"<?xml")):
        return "is a web page, as of a failed download"
    if text.startswith((b"{", b"[")):
        return "is JSON; allowed: .safetensors or PyTorch's files"
    if head.startswith(b"\x93NUMPY"):
        return "is a numpy array; allowed: .safetensors or PyTorch's files"
    if head[8:9] == b"{" and file.suffix != ".safetensors":
        return "looks like safetensors; give it the ending .safetensors"
    if head.startswith(b"PK") and not zipfile.is_zipfile(file):
        return "is cut off: a download or copy did not come to its end"
    return _kind_of_archive(file) if zipfile.is_zipfile(file) else ""


def _kind_of_archive(file: Path) -> str:
    names = zipfile.ZipFile(file).namelist()
    if any(name.endswith(".npy") for name in names):
        return "is a numpy archive; its name must end in .npz"
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "is TorchScript, as OpenAI's own .pt files are: a program; "
            "allowed: a tag such as openai, or a file of the model's state_dict()"
        )
    try:
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # a damaged archive
        return ""
    found = ", ".join(sorted(name for name in objects if name.isprintable())[:3])
    return found and f"holds Python objects ({found[:120]}), {_STATE_DICT}"


def _unwrapped(content: Any) -> dict[str, Tensor]:
    """Take the weights out of a training checkpoint, and off a prefix that all keys share."""
    weights = content
    for name in WRAPPERS:
        if isinstance(weights, dict) and isinstance(weights.get(name), dict):
            weights = weights[name]
    if not isinstance(weights, dict) or not weights:
        raise ValueError(f"the file holds {'nothing' if weights == {} else type(weights).__name__}")
    if not all(isinstance(k, str) and isinstance(w, Tensor) for k, w in weights.items()):
        raise ValueError(f"the file is no state_dict(); its keys begin with {_first(weights)}")
    if SETTINGS & set(weights):
        weights = {key: weight for key, weight in weights.items() if key not in SETTINGS}
    while len(weights) > 1 and len(first := {key.partition(".")[0] for key in weights}) == 1:
        (prefix,) = first
        if prefix == "visual":  # the image tower alone is refused, by its own keys
            break
        weights = {key.removeprefix(f"{prefix}."): weight for key, weight in weights.items()}
    return weights


def _check(weights: Mapping[str, Tensor]) -> None:
    for key, weight in weights.items():
        if not weight.dtype.is_floating_point and key.rpartition(".")[2] not in COUNTS:
            kind = str(weight.dtype).removeprefix("torch.")
            raise ValueError(f"the weights are not floating-point numbers: {key} is {kind}")


def _first(content: Mapping[Any, Any]) -> str:
    keys = [f"{one_line(key, 60)} {tuple(getattr(w, 'shape', ()))}" for key, w in content.items()]
    return ", ".join([*keys[:3], *([f"{len(keys) - 3} more"] if len(keys) > 3 else [])])
