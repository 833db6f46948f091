"""CLIP's own classifier: class names in words, in prompts, through the text tower."""

from __future__ import annotations

import math
from dataclasses import dataclass

import open_clip
import torch
from torch import nn

from models.head import LinearHead


@dataclass(frozen=True)
class Prompts:
    """What the text tower is asked: every template filled with every class's words."""

    words: tuple[str, ...]
    templates: tuple[str, ...]


@torch.no_grad()
def zero_shot_head(model: nn.Module, name: str, prompts: Prompts) -> LinearHead:
    """A linear head over *the embedding* whose logits are those of CLIP.

    A class's weight is the mean of its prompts' normalised text embeddings, normalised again
    (Radford et al. 2021, arXiv:2103.00020, section 3.1.4), times the model's logit scale. As our
    embedding has length sqrt(d), the weight is divided by that.

    Args:
        model: a CLIP of open_clip.
        name: its name, by which its tokenizer is found.

    Raises:
        OSError, ValueError, ImportError and what else open_clip raises over a tokenizer that
            cannot be had.
    """
    tokenizer = open_clip.get_tokenizer(name, context_length=model.context_length)
    model.eval()
    texts = open_clip.build_zero_shot_classifier(
        model, tokenizer, prompts.words, prompts.templates, num_classes_per_batch=10
    )  # (d, C)
    scale = model.get_parameter("logit_scale").exp()
    weight = (scale / math.sqrt(len(texts)) * texts.T).float().contiguous()
    return LinearHead(weight, torch.zeros(len(weight)))
