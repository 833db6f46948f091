"""What one trial does: the settings of its training, and what they select in the encoder."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from errors import InputError

if TYPE_CHECKING:  # search spaces are read before torch is imported
    from torch import nn

    from models.encoder import Encoder

KINDS = ("ln", "attn", "mlp", "embed", "proj")
"""What a parameter belongs to: a LayerNorm, attention, an MLP; and, outside the blocks, the patch
and position embedding (`embed`, in the stem) and the projection (`proj`, in final)."""
NO_BLOCKS, ALL_BLOCKS = "none", "all"


def _tuple(value: Any) -> Any:
    """A single number is a bank of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Settings(BaseModel):
    """The settings of one fit, by the names used in search spaces, each checked by itself.

    `head_lr` and `weight_decay` may hold several values: the fit then trains one head for every
    pair of them, a *bank*. Only a frozen encoder (`blocks: none`) may have a bank of more than
    one head, as heads that share trained blocks would disturb each other.

    A probe can be solved instead of trained: `solver: lbfgs` minimises the mean cross-entropy
    plus `weight_decay`/2 times the squared norm of the head's weight, to convergence, for each
    weight decay (scikit-learn's `LogisticRegression` with C = 1 / (weight_decay n)). `solver:
    none` leaves the head where it starts: with `head_start: zero_shot`, CLIP's own classifier.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: str = Field(NO_BLOCKS, description="which blocks to train: none, 11, 11-7, all")
    kinds: str = Field("ln+attn+mlp", description="which kinds of layer in them, joined by +")
    lr: Rate = Field(1e-3, description="peak learning rate at the last block")
    llrd_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from each block to the one below"
    )
    head_lr: Annotated[tuple[Rate, ...], BeforeValidator(_tuple)] = Field(
        (1e-3,), min_length=1, description="peak learning rate of the head"
    )
    weight_decay: Annotated[tuple[Decay, ...], BeforeValidator(_tuple)] = Field(
        (0.0,), min_length=1, description="decoupled weight decay (AdamW)"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the horizon spent warming up")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_size: int = Field(64, ge=1, le=65536)
    head_start: Literal["probe", "zero_shot", "zeros"] = Field(
        "probe",
        description="where the head starts: the partition's best probe, CLIP's text, or zeros",
    )
    solver: Literal["adamw", "lbfgs", "none"] = Field(
        "adamw", description="how the head is found; lbfgs and none are for frozen encoders"
    )
    views: int = Field(
        0, ge=0, le=64, description="augmented copies of each training image, beside itself"
    )

    @field_validator("blocks", mode="before")
    @classmethod
    def _blocks_as_text(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and not re.fullmatch(r"none|all|\d+(-\d+)?", text):
            raise ValueError(f"{text!r} names no blocks; allowed: none, all, 11, 11-7")
        return text

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str) -> str:
        parts = value.split("+")
        if unknown := [kind for kind in parts if kind not in KINDS]:
            raise ValueError(f"unknown kind {unknown[0]!r}; allowed: {', '.join(KINDS)}")
        if len(set(parts)) < len(parts):
            raise ValueError(f"{value!r} names a kind twice")
        return value


class Recipe(Settings):
    """Settings that have been checked together."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if len(self.bank) > 1 and not self.frozen_encoder:
            raise ValueError("several head_lr or weight_decay at once need blocks: none")
        if not self.trained and not self.frozen_encoder:
            raise ValueError(f"solver: {self.solver} needs blocks: none")
        if self.solver == "none" and self.head_start != "zero_shot":
            raise ValueError("solver: none needs head_start: zero_shot; there is no other head")
        return self

    @property
    def frozen_encoder(self) -> bool:
        return self.blocks == NO_BLOCKS

    @property
    def trained(self) -> bool:
        """Whether it takes steps; else it is solved at once, or there is nothing to solve."""
        return self.solver == "adamw"

    @property
    def start(self) -> str:
        """Where the head starts from, if it matters: probe, zero_shot or zeros."""
        if self.frozen_encoder and (self.head_start == "probe" or self.solver == "lbfgs"):
            return "zeros"  # a probe has none to start from, and an exact solution needs none
        return self.head_start

    @property
    def bank(self) -> tuple[tuple[float, float], ...]:
        """The (head_lr, weight_decay) of every head of the bank; a solver has no rates."""
        rates = self.head_lr if self.trained else self.head_lr[:1]
        decays = self.weight_decay[:1] if self.solver == "none" else self.weight_decay
        return tuple(itertools.product(rates, decays))

    def block_range(self, depth: int) -> range:
        """The blocks to train, out of `depth`.

        Raises:
            InputError: the encoder does not have them.
        """
        if self.blocks == NO_BLOCKS:
            return range(0)
        if self.blocks == ALL_BLOCKS:
            return range(depth)
        ends = [int(end) for end in self.blocks.split("-")]
        low, high = min(ends), max(ends)
        if high >= depth:
            raise InputError(
                f"blocks: {self.blocks!r} asks for block {high}, but the encoder's blocks are "
                f"0 to {depth - 1}"
            )
        return range(low, high + 1)

    def trained_parameters(self, encoder: Encoder) -> dict[tuple[int, str], float]:
        """What to train: (index of the layer group, parameter name) to its share of `lr`.

        The final norm (and attention pooling) is trained with the last block, as in open_clip's
        `lock_image_tower`; the stem only by `all`. The rate falls by `llrd_decay` from each
        block to the one below, 1 at the last block and above (layer-wise learning-rate decay:
        Howard & Ruder 2018, arXiv:1801.06146; as for ViTs in Bao et al. 2021, arXiv:2106.08254).

        Raises:
            InputError: the blocks are not the encoder's, or hold nothing of these kinds.
        """
        if self.frozen_encoder:
            return {}
        blocks, depth = self.block_range(encoder.depth), encoder.depth
        groups = [1 + i for i in blocks]
        if depth - 1 in blocks:
            groups.append(depth + 1)
        if self.blocks == ALL_BLOCKS:
            groups.insert(0, 0)
        kinds = self.kinds.split("+")
        trained = {}
        for i in groups:
            decay = self.llrd_decay ** max(0, depth - i)
            for name, kind, _ in encoder.group(i).parameters_by_kind():
                if kind in kinds:
                    trained[i, name] = decay
        if not trained:
            raise InputError(f"kinds: blocks {self.blocks} hold no parameters of {self.kinds}")
        return trained

    def boundary(self, encoder: Encoder) -> str:
        """The highest boundary below everything that is trained."""
        trained = self.trained_parameters(encoder)
        lowest = min((i for i, _ in trained), default=len(encoder.groups))
        return encoder.boundaries[lowest]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices and the patch convolution, as in open_clip and
    timm; not to norms, biases, scales, tokens or position embeddings."""
    return parameter.ndim >= 2 and not any(
        piece in name for piece in ("pos_embed", "_token", "positional")
    )
