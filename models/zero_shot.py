"""CLIP's own classifier: class names, in prompts, through the text tower."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from errors import one_line
from files import replacing
from models.head import LinearHead

FORMULA = 1
"""Goes up when heads are made of embeddings in another way; older files are not used then."""


@dataclass(frozen=True)
class Prompts:
    """The texts that make a classifier.

    Attributes:
        words: of each class: words that fill every template, or sentences that stand alone.
        templates: with one `{}` each.
    """

    words: tuple[str | tuple[str, ...], ...]
    templates: tuple[str, ...]

    def of_class(self, number: int) -> list[str]:
        """Return the texts of a class."""
        words = self.words[number]
        if isinstance(words, str):
            return [template.format(words) for template in self.templates]
        return list(words)


@torch.no_grad()
def zero_shot_head(
    model: nn.Module, name: str, prompts: Prompts, cache: Path | None = None
) -> LinearHead:
    """Make a linear head over *the embedding* whose logits are those of a CLIP of open_clip.

    A class's weight is the mean of its texts' normalised embeddings, normalised again
    (Radford et al. 2021, arXiv:2103.00020, section 3.1.4), times the model's logit scale. As our
    embedding has length sqrt(d), the weight is divided by that. `name` finds the tokenizer, and
    `cache` is a folder where heads are kept: 1,000 classes in 80 templates take minutes on a CPU.

    Raises:
        Exception: open_clip cannot load the tokenizer (`models.loading.UNLOADABLE`).
    """
    tokenizer = open_clip.get_tokenizer(name, context_length=model.context_length)
    model.eval()
    file = None
    if cache is not None:
        file = cache / f"{_text_digest(model, tokenizer, prompts)}.safetensors"
        if (weight := _kept(file)) is not None:
            return LinearHead(weight, torch.zeros(len(weight)))
    texts = _text_embeddings(model, tokenizer, prompts)
    scale = model.get_parameter("logit_scale").exp()
    weight = (scale / math.sqrt(len(texts)) * texts.T).float().contiguous()
    if file is not None:
        with contextlib.suppress(OSError, SafetensorError), replacing(file) as path:
            save_file({"weight": weight}, path, {"sha256": _digest(weight)})
    return LinearHead(weight, torch.zeros(len(weight)))


def unread_words(model: nn.Module, name: str, prompts: Prompts) -> list[str]:
    """Say in lines what the text tower cannot read: the ends of prompts, so that classes are one.

    Each class's longest prompt is looked at. A tokenizer with room for one token more puts
    something else in the last place of a prompt that it has cut.
    """
    length: Any = model.context_length
    tokenizer = open_clip.get_tokenizer(name, context_length=length)
    longest = [max(prompts.of_class(number), key=len) for number in range(len(prompts.words))]
    tokens, wider = tokenizer(longest), tokenizer(longest, context_length=length + 1)
    cut = (tokens != wider[:, :length]).any(dim=1).tolist()
    read = [tuple(row) for row in tokens.tolist()]
    same = Counter(read)
    lines = []
    if any(cut):
        lines.append(
            f"the text encoder reads {length} tokens, and the prompts of {sum(cut)} classes are "
            f"longer, such as {one_line(longest[cut.index(True)], 60)!r}: their ends are cut off"
        )
    if alike := [text for text, row in zip(longest, read, strict=True) if same[row] > 1]:
        lines.append(
            f"the text encoder reads the same prompt for {len(alike)} classes, such as "
            f"{one_line(alike[0], 60)!r}: zero-shot cannot tell them apart"
        )
    return lines


def _text_embeddings(
    model: nn.Module, tokenizer: Callable[[list[str]], Tensor], prompts: Prompts
) -> Tensor:
    """Return each class's mean embedding, normalised, as a column (d, C)."""

    def encoded(words: list[str], templates: tuple[str, ...]) -> Tensor:
        columns: Tensor = open_clip.build_zero_shot_classifier(
            model, tokenizer, words, templates, num_classes_per_batch=10
        )
        return columns

    named = [words for words in prompts.words if isinstance(words, str)]
    columns = iter(encoded(named, prompts.templates).T if named else ())
    found = [
        next(columns)
        if isinstance(words, str)
        else F.normalize(encoded(list(words), ("{}",)).mean(dim=1), dim=0)
        for words in prompts.words
    ]
    return torch.stack(found, dim=1)


def _text_digest(
    model: nn.Module, tokenizer: Callable[[list[str]], Tensor], prompts: Prompts
) -> str:
    """Digest all that a head follows from: the text tower, and the tokens of every prompt.

    Attention heads, masks and pooling show in the embeddings of one class's prompts alone.
    """
    digest = hashlib.sha256(f"{FORMULA}".encode())
    for key, weight in sorted(model.state_dict().items()):
        if not key.startswith("visual."):
            digest.update(f"{key} {weight.dtype} {_digest(weight)}".encode())
    for number in range(len(prompts.words)):
        tokens = tokenizer(prompts.of_class(number))
        digest.update(_digest(tokens).encode())
        if number == 0:
            encode: Callable[[Tensor], Tensor] = getattr(model, "encode_text")  # noqa: B009
            digest.update(_digest(encode(tokens)).encode())
    return digest.hexdigest()


def _kept(file: Path) -> Tensor | None:
    """Read the weight in a file; None if there is no file, or it is damaged."""
    try:
        with safe_open(file, "pt") as kept:
            weight: Tensor = kept.get_tensor("weight")
            return weight if kept.metadata()["sha256"] == _digest(weight) else None
    except (OSError, SafetensorError, LookupError, TypeError):
        return None


def _digest(tensor: Tensor) -> str:
    content = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return f"{tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"
