"""A suffix of the encoder with its heads: what a fit trains, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.encoder import Encoder
from models.feature_dataset import Examples
from models.head import HeadBank
from models.micro_batches import MicroBatches
from models.precision import Precision
from models.recipe import Recipe

EVALUATED = 256  # examples in one pass without gradient


class Classifier(nn.Module):
    """Layer groups from a boundary up, and a bank of heads.

    Args:
        groups: the groups above the cached boundary, owned by this classifier.
        head: the heads.
        trained_from: index in `groups` of the first one that holds a trained parameter; those
            below it are run without gradient.
    """

    def __init__(self, groups: nn.ModuleList, head: HeadBank, trained_from: int) -> None:
        super().__init__()
        self.groups = groups
        self.head = head
        self.trained_from = trained_from
        self._portions = MicroBatches(EVALUATED)
        self.train_suffix()

    def train_suffix(self) -> None:
        """Training mode from the first trained group up; what lies below stays in eval mode."""
        for group in self.groups[self.trained_from :]:
            group.train()
            for module in group.modules():
                # Its running statistics are the encoder's, and no part of what is trained.
                if isinstance(module, _BatchNorm):
                    module.eval()

    def embed(self, x: Tensor) -> Tensor:
        """Features at the boundary to embeddings (n, d)."""
        with torch.no_grad():
            for group in self.groups[: self.trained_from]:
                x = group(x)
        for group in self.groups[self.trained_from :]:
            x = group(x)
        return x

    @torch.no_grad()
    def embeddings(self, examples: Examples, precision: Precision, copies: int = 1) -> Tensor:
        """Embeddings (copies n, d) of all examples, in order, in the heads' type."""
        dtype, n = self.head.weight.dtype, copies * len(examples)

        def embedded(size: int) -> Tensor:
            parts = []
            for begin in range(0, n, size):
                positions = np.arange(begin, min(begin + size, n))
                x, _ = examples.batch(positions, precision.device, dtype)
                with precision.autocast():
                    parts.append(self.embed(x).to(dtype))
            return torch.cat(parts)

        self.eval()
        embeddings = self._portions.fitted(embedded)
        self.train_suffix()
        return embeddings

    @torch.no_grad()
    def logits(self, examples: Examples, precision: Precision) -> Tensor:
        """Logits (H, n, C) of all examples, in order, on the CPU in float32."""
        embeddings = self.embeddings(examples, precision)
        return torch.stack([x.float().cpu() for x in self.head.one_by_one(embeddings)])


def trained_weights(recipe: Recipe, encoder: Encoder, boundary: str) -> dict[tuple[int, str], str]:
    """What a fit's trained encoder weights are called in a file.

    Maps (index in the suffix above `boundary`, parameter's name) to a name such as
    "block 11/part.mlp.c_fc.weight".

    Raises:
        ValueError: the recipe trains below `boundary`, where its features are cached.
    """
    first = encoder.index(boundary)
    names = {}
    for i, name in recipe.trained_parameters(encoder):
        if i < first:
            raise ValueError(f"the recipe trains below {boundary}, where its features are cached")
        names[i - first, name] = f"{encoder.group(i).name}/{name}"
    return names


def restored(
    encoder: Encoder,
    recipe: Recipe,
    boundary: str,
    weights: Mapping[str, Tensor],
    precision: Precision,
) -> Classifier:
    """The classifier that `Fit.exported` wrote, fed from `boundary`.

    Raises:
        ValueError, RuntimeError: the weights are not the recipe's on this encoder.
    """
    names = trained_weights(recipe, encoder, boundary)
    if odd := {*names.values(), "head/weight", "head/bias"} ^ weights.keys():
        raise ValueError(f"the weights are not the recipe's: {min(odd)} is in one of them alone")
    groups = encoder.suffix(boundary)
    head = HeadBank(1, encoder.dim, len(weights["head/bias"]))
    head.load_state_dict({key: weights[f"head/{key}"][None] for key in ("weight", "bias")})
    for (i, name), saved in names.items():
        groups[i].load_state_dict({name: weights[saved]}, strict=False)  # strict in its shape
    lowest = min((i for i, _ in names), default=len(groups))
    return Classifier(groups, head, lowest).to(precision.device)
