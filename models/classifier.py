"""A suffix of the encoder with its heads: what a fit trains, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.device import Device
from models.encoder import Encoder
from models.feature_dataset import FeatureDataset
from models.head import HeadBank
from models.lora import adapt
from models.micro_batches import MicroBatches
from models.selection import Selection

EVALUATED = 256  # examples in one pass without gradient


class Classifier(nn.Module):
    """Layer groups from a boundary up, copied from the encoder, and a bank of heads.

    `trained` holds those parameters of the groups that are trained, by key. They are LoRA's where
    the recipe asks for it and a `lora_seed` is given; without one, weights are merged ones.

    Raises:
        ValueError: something is trained below `boundary`.
    """

    def __init__(
        self,
        encoder: Encoder,
        selection: Selection,
        boundary: str,
        head: HeadBank,
        lora_seed: int | None = None,
    ) -> None:
        super().__init__()
        if boundary not in selection.boundaries:
            raise ValueError(f"the recipe trains below {boundary}, where its features are cached")
        first = encoder.index(boundary)
        self.groups = encoder.suffix(boundary)
        self.head = head
        self.trained: dict[str, nn.Parameter] = {}
        self._merged = {p.key: (p.group - first, p.name) for p in selection.parameters}
        recipe = selection.recipe
        for p in selection.parameters:
            group = self.groups[p.group - first]
            if p.low_rank and lora_seed is not None:
                seed = f"{lora_seed} {p.key}"
                factors = adapt(group, p.name, recipe.lora_rank, recipe.lora_alpha, seed)
                self.trained |= zip(p.keys, factors, strict=True)
            else:
                self.trained[p.key] = group.get_parameter(p.name)
        # Also where nothing is trained any more: torch multiplies, and so rounds, otherwise by what
        # has gradients. Merged weights have none, as in a fit.
        merged = {p.key for p in selection.parameters if p.low_rank}
        for key, parameter in self.trained.items():
            parameter.requires_grad_(key not in merged)
        # The groups below this one are run without gradient.
        self._trained_from = encoder.index(selection.boundary) - first
        self._micro_batches = MicroBatches(EVALUATED)
        self.train_suffix()

    def train_suffix(self) -> None:
        """Put the groups from the first trained one up in training mode; the others stay.

        BatchNorms never are, even where their weights are trained: a trial's batches are small, and
        what lies below is cached as it was with the encoder's statistics. So buffers do not change,
        and weights are all that averages, checkpoints and exported models carry.
        """
        for group in self.groups[self._trained_from :]:
            group.train()
            for module in group.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    @torch.no_grad()
    def merged(self) -> dict[str, Tensor]:
        """Compute the matrices that LoRA adapts; with what else is trained, by its own key."""
        found = {}
        for key, (index, name) in self._merged.items():
            path, _, own = name.rpartition(".")
            found[key] = getattr(self.groups[index].get_submodule(path), own).detach()
        return found

    def embed(self, x: Tensor) -> Tensor:
        """Map features at the boundary to embeddings (n, d)."""
        with torch.no_grad():
            for group in self.groups[: self._trained_from]:
                x = group(x)
        for group in self.groups[self._trained_from :]:
            x = group(x)
        return x

    @torch.no_grad()
    def embeddings(self, examples: FeatureDataset, device: Device, copies: int = 1) -> Tensor:
        """Compute the embeddings (copies n, d) of all examples, in order, in the heads' type."""
        dtype, n = self.head.weight.dtype, copies * len(examples)

        def embedded(size: int) -> Tensor:
            found = self.head.weight.new_empty((n, self.head.weight.shape[-1]))
            for begin in range(0, n, size):
                positions = np.arange(begin, min(begin + size, n))
                examples.announce(np.arange(begin + size, min(begin + 2 * size, n)))
                x, _ = examples.batch(positions, device.torch, dtype)
                with device.autocast():
                    found[begin : begin + size] = self.embed(x)
            return found

        self.eval()
        embeddings = self._micro_batches.run(embedded)
        self.train_suffix()
        return embeddings

    @torch.no_grad()
    def logits(self, examples: FeatureDataset, device: Device, head: int = 0) -> Tensor:
        """Compute a head's logits (n, C) of all examples, in order, on the CPU in float32."""
        return self.head.logits(self.embeddings(examples, device), head).float().cpu()


@torch.no_grad()
def build_classifier(
    encoder: Encoder,
    selection: Selection,
    boundary: str,
    weights: Mapping[str, Tensor],
    device: Device,
) -> Classifier:
    """Rebuild a classifier, fed from `boundary`, from `models.exported.exported_weights`.

    Raises:
        ValueError: the weights are not the recipe's on this encoder.
    """
    keys = {*(p.key for p in selection.parameters), "head/weight", "head/bias"}
    if odd := keys ^ weights.keys():
        raise ValueError(f"the weights are not the recipe's: {min(odd)} is in one of them alone")
    bank = HeadBank(1, encoder.dim, weights["head/bias"].numel())
    classifier = Classifier(encoder, selection, boundary, bank).to(device.torch)
    heads = {"head/weight": bank.weight[0], "head/bias": bank.bias[0]}
    for key, parameter in {**heads, **classifier.trained}.items():
        if weights[key].shape != parameter.shape:
            raise ValueError(
                f"{key} has the shape {tuple(weights[key].shape)}, not {tuple(parameter.shape)}"
            )
        parameter.copy_(weights[key])
    return classifier
