"""What a recipe trains in an encoder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from errors import InputError
from models.encoder import Encoder
from models.lora import FACTORS, factor_size
from models.recipe import ALL_BLOCKS, FINAL_ONLY, LAST, NO_BLOCKS, Recipe


@dataclass(frozen=True)
class TrainedParameter:
    """One parameter of the encoder that a fit trains.

    Attributes:
        group: the index of its layer group.
        name: its name in the layer group, as in `named_parameters`.
        key: its name in files, such as "block 11/part.mlp.c_fc.weight".
        kind: one of `models.recipe.KINDS`.
        lr_scale: its learning rate's share of the recipe's `lr`.
        decays: whether weight decay applies to it.
        low_rank: whether LoRA adapts it, and it stays as it is itself.
    """

    group: int
    name: str
    key: str
    kind: str
    lr_scale: float
    decays: bool
    low_rank: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The names in files of what a fit trains for it: its own, or those of A and B."""
        if not self.low_rank:
            return (self.key,)
        return tuple(f"{self.key}/lora_{factor}" for factor in FACTORS)


@dataclass(frozen=True)
class Selection:
    """A recipe resolved against an encoder.

    Attributes:
        parameters: what it trains in the encoder, from the lowest layer group up.
        boundaries: where a fit can be fed, from "pixels" up to the recipe's own boundary.
        count: how many numbers are trained: those of the parameters, or of LoRA's A and B.
    """

    recipe: Recipe
    parameters: tuple[TrainedParameter, ...]
    boundaries: tuple[str, ...]
    count: int

    @property
    def boundary(self) -> str:
        """The highest boundary below everything that is trained."""
        return self.boundaries[-1]

    def fed_from(self, cached: Collection[str]) -> str:
        """The highest of `boundaries` that is cached; raises ValueError if none is."""
        if found := [boundary for boundary in self.boundaries if boundary in cached]:
            return found[-1]
        raise ValueError("none of the features that the recipe trains on is cached")


def select(recipe: Recipe, encoder: Encoder) -> Selection:
    """Find what a recipe trains in an encoder.

    The final norm (and attention pooling) is trained with the last block, as in open_clip's
    `lock_image_tower`, or alone by `blocks: final`; the stem only by `blocks: all`. The learning
    rate falls by `llrd_decay` from each block to the one below, and is whole at the last block and
    above (layer-wise learning-rate decay: Howard & Ruder 2018, arXiv:1801.06146; as for ViTs in Bao
    et al. 2021, arXiv:2106.08254).

    With `lora_rank`, the matrices of attention, MLPs and convolutions are adapted by LoRA, and
    nothing else of these three kinds is trained; the other kinds are trained as without.

    Raises:
        InputError: the encoder lacks the blocks, or they hold nothing of these kinds.
    """
    kinds, depth = recipe.kinds.split("+"), encoder.depth
    parameters, count = [], 0
    for index in _group_indices(recipe, depth):
        group = encoder.group(index)
        for name, kind, parameter in group.parameters_by_kind():
            decays = group.uses_weight_decay(name)
            adaptable = recipe.lora_rank > 0 and kind in ("attn", "mlp", "conv")
            low_rank = adaptable and decays and parameter.ndim in (2, 4)
            if kind in kinds and (low_rank or not adaptable):
                lr_scale = recipe.llrd_decay ** max(0, depth - index)
                key = f"{group.name}/{name}"
                parameters.append(
                    TrainedParameter(index, name, key, kind, lr_scale, decays, low_rank)
                )
                rank = recipe.lora_rank
                count += factor_size(parameter, rank) if low_rank else parameter.numel()
    if not parameters and recipe.blocks != NO_BLOCKS:
        groups = (encoder.group(index) for index in _group_indices(recipe, depth))
        held = {kind for group in groups for _, kind, _ in group.parameters_by_kind()}
        raise InputError(
            f"kinds: blocks {recipe.blocks} hold no parameters of {recipe.kinds}; "
            f"allowed there: {', '.join(sorted(held)) or 'none'}"
        )
    lowest = min((p.group for p in parameters), default=len(encoder.groups))
    return Selection(recipe, tuple(parameters), encoder.boundaries[: lowest + 1], count)


def _group_indices(recipe: Recipe, depth: int) -> list[int]:
    """The layer groups with something to train: 0 is the stem, i + 1 block i, depth + 1 final."""
    if recipe.blocks == NO_BLOCKS:
        return []
    if recipe.blocks == ALL_BLOCKS:
        return list(range(depth + 2))
    if recipe.blocks == FINAL_ONLY:
        return [depth + 1]
    if recipe.blocks.startswith(LAST):
        return list(range(max(depth - int(recipe.blocks.removeprefix(LAST)), 0) + 1, depth + 2))
    ends = [int(end) for end in recipe.blocks.split("-")]
    low, high = min(ends), max(ends)
    if high >= depth:
        raise InputError(
            f"blocks: {recipe.blocks!r} asks for block {high}, but the encoder's blocks are "
            f"0 to {depth - 1}"
        )
    final = [depth + 1] if high == depth - 1 else []
    return [*range(low + 1, high + 2), *final]
