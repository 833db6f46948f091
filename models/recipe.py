"""The settings of one trial's training. Imports no torch: search spaces are read without."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from errors import shown
from models.solvers import SOLVERS, StepSolver
from sections import Section

KINDS = ("ln", "attn", "mlp", "conv", "embed", "proj")
"""What a parameter belongs to: a normalisation layer (LayerNorm or BatchNorm), attention, an MLP, a
convolution that is in none of them; and, outside the blocks, the patch and position embedding
(`embed`, in the stem) and the projection (`proj`, in final)."""
NO_BLOCKS, ALL_BLOCKS, FINAL_ONLY = "none", "all", "final"
LAST = "last "
"""And how many: the highest blocks, or all where there are fewer."""
BLOCKS = re.compile(rf"none|final|all|{LAST}[1-9]\d{{0,3}}|\d{{1,4}}(-\d{{1,4}})?")


def _bank(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Rate = Annotated[float, Field(gt=0, le=100)]
HeadRate = Annotated[float, Field(ge=0, le=100)]
Decay = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1000)]
Scale = Annotated[float, Field(ge=0, le=10)]


class Settings(Section):
    """The settings of one fit, by the names used in search spaces, each checked by itself.

    `head_lr`, `weight_decay`, `anchor` and `gda` may hold several values: the fit then trains one
    head for every combination of those that its solver uses, a *bank*. Only a frozen encoder
    (`blocks: none`) may have a bank of more than one head, as heads that share trained blocks would
    disturb each other.

    `blocks: final` with `kinds: proj` trains the projection alone, beside a head that `head_lr: 0`
    keeps or that is trained too (ProLIP: Fahes et al. 2025, arXiv:2410.05270). A tower without one,
    such as SigLIP's, is given the identity, of the embedding's width.

    A probe can be solved instead of trained: `solver: lbfgs` minimises the mean cross-entropy
    plus `weight_decay`/2 times the squared distance of the head's weight from `anchor` times the
    text head, to convergence. With `anchor: 0` it is scikit-learn's `LogisticRegression` with C = 1
    / (weight_decay n); with 1, the strongest decay gives CLIP's own classifier. `solver: gda` adds
    the classifier of Gaussian classes to the text head. `solver: none` leaves the head where it
    starts: with `head_start: zero_shot`, at that classifier. With `top_k` the mean of a bank's best
    heads is kept instead of the best one: few validation images cannot tell the best from the next.
    """

    blocks: str = Field(
        NO_BLOCKS, description="which blocks to train: none, final, all, last 5, 11, 11-7"
    )
    kinds: str = Field("ln+attn+mlp", description="which kinds of layer in them, joined by +")
    lr: Rate = Field(1e-3, description="peak learning rate at the last block")
    llrd_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from each block to the one below"
    )
    lora_rank: int = Field(
        0,
        ge=0,
        le=65536,
        description="rank of LoRA on matrices of attn, mlp and conv; 0: train them whole",
    )
    lora_alpha: float = Field(16.0, gt=0, le=1e6, description="LoRA's products count alpha / rank")
    head_lr: Annotated[tuple[HeadRate, ...], BeforeValidator(_bank)] = Field(
        (1e-3,),
        min_length=1,
        max_length=100,
        description="peak learning rate of the head; 0 keeps it as it starts",
    )
    weight_decay: Annotated[tuple[Decay, ...], BeforeValidator(_bank)] = Field(
        (0.0,),
        min_length=1,
        max_length=100,
        description="adamw: decoupled weight decay; lbfgs: strength of the penalty",
    )
    anchor: Annotated[tuple[Scale, ...], BeforeValidator(_bank)] = Field(
        (0.0,),
        min_length=1,
        description="solver lbfgs: the multiple of the text head that weight_decay pulls to",
    )
    pull_to_start: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="L2-SP: a penalty of half so much times the squared distance of all that is "
        "trained from its start",
    )
    gda: Annotated[tuple[Share, ...], BeforeValidator(_bank)] = Field(
        (1.0,),
        min_length=1,
        max_length=100,
        description="solver gda: the weight of the Gaussian classifier beside the text head",
    )
    top_k: int = Field(
        1,
        ge=1,
        le=100,
        description="heads of a solved bank, the best on validation, whose mean is kept",
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the horizon spent warming up")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that is spread over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: in the loss every class counts the same"
    )
    batch_size: int = Field(64, ge=1, le=65536, description="images of one training step")
    head_start: Literal["probe", "zero_shot", "zeros"] = Field(
        "probe",
        description="where the head starts: the partition's best probe, CLIP's text, or zeros",
    )
    solver: str = Field(
        "adamw",
        description=f"how the head is found: {', '.join(SOLVERS)}; all but adamw need blocks: none",
    )
    views: int = Field(
        0, ge=0, le=64, description="augmented copies of each training image, beside itself"
    )

    @field_validator("blocks", mode="before")
    @classmethod
    def _blocks_as_text(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and not BLOCKS.fullmatch(text):
            raise ValueError(
                f"{shown(text)} names no blocks; allowed: none, final, all, last 5, 11, 11-7"
            )
        return text

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, value: str) -> str:
        parts = value.split("+")
        if unknown := [kind for kind in parts if kind not in KINDS]:
            raise ValueError(f"unknown kind {shown(unknown[0])}; allowed: {', '.join(KINDS)}")
        if len(set(parts)) < len(parts):
            raise ValueError(f"{shown(value)} names a kind twice")
        return value

    @field_validator("solver")
    @classmethod
    def _known_solver(cls, value: str) -> str:
        if value not in SOLVERS:
            raise ValueError(f"unknown solver {shown(value)}; allowed: {', '.join(SOLVERS)}")
        return value


class Recipe(Settings):
    """Settings that have been checked together."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        solver = SOLVERS[self.solver]
        if self.top_k > 1 and self.takes_steps:
            raise ValueError("top_k above 1 needs a head that is solved for: solver: lbfgs or gda")
        if len(self.bank) > 1 and not self.frozen_encoder:
            raise ValueError("several head_lr or weight_decay at once need blocks: none")
        if not solver.trains_encoder and not self.frozen_encoder:
            raise ValueError(f"solver: {self.solver} needs blocks: none")
        if self.frozen_encoder and self.takes_steps and 0 in self.head_lr:
            raise ValueError("head_lr: 0 with blocks: none trains nothing; solver: none does that")
        if solver.only_start not in (None, self.head_start):
            raise ValueError(
                f"solver: {self.solver} needs head_start: {solver.only_start}; there is no other "
                "head"
            )
        return self

    @property
    def frozen_encoder(self) -> bool:
        """Whether nothing but the head is trained."""
        return self.blocks == NO_BLOCKS

    @property
    def takes_steps(self) -> bool:
        """Whether it is trained in steps; else it is solved at once."""
        return isinstance(SOLVERS[self.solver], StepSolver)

    @property
    def start(self) -> str:
        """Where the head starts from, if it matters: probe, zero_shot or zeros."""
        start = SOLVERS[self.solver].start(self)
        if self.frozen_encoder and start == "probe":
            return "zeros"  # it is a probe itself
        return start

    @property
    def bank(self) -> tuple[dict[str, float], ...]:
        """The settings of every head of the bank, by name."""
        names = SOLVERS[self.solver].banked
        combinations = itertools.product(*(getattr(self, name) for name in names))
        return tuple(dict(zip(names, values, strict=True)) for values in combinations)

    def chosen(self, index: int) -> dict[str, float]:
        """Return the settings of one head of a bank; nothing where there is only one."""
        return self.bank[index] if len(self.bank) > 1 else {}

    def of_head(self, index: int) -> Recipe:
        """Return the recipe of one head of the bank."""
        return self.model_copy(update={k: (v,) for k, v in self.bank[index].items()})
