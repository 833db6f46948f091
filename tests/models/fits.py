"""Small fits on toy data: a probe on clusters, and a tiny tower tuned on noisy pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoder import Encoder
from models.feature_dataset import Examples
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from tests.models.tiny_towers import at, examples, pixels

CLASSES, SEED = 3, 0


def clusters(n: int, seed: int, spread: float = 0.3, dim: int = 12) -> Examples:
    """Separable: one direction a class, and a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    found = 3 * np.eye(CLASSES, dim)[labels] + spread * rng.standard_normal((n, dim))
    return examples(found.astype(np.float32), labels.astype(np.int64))


def images(n: int, seed: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Noise over one picture a class."""
    labels = np.arange(n) % CLASSES
    return pixels(CLASSES, 99)[labels] + 0.5 * pixels(n, seed), labels


def probe(encoder: Encoder, horizon: int = 600, seed: int = SEED, **settings: Any) -> Fit:
    recipe = Recipe(**{"batch_size": 10, "head_lr": 0.05, **settings})
    train, val = clusters(30, 1), clusters(60, 2)
    return Fit(
        encoder,
        select(recipe, encoder),
        "head",
        train,
        val,
        classes=CLASSES,
        horizon=horizon,
        seed=seed,
    )


def tuning(
    encoder: Encoder,
    boundary: str = "block 1",
    average: bool = False,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Fit:
    defaults = {"blocks": "2-1", "lr": 3e-3, "head_lr": 0.01, "batch_size": 8, "weight_decay": 0.1}
    recipe = Recipe(**{**defaults, **settings})
    train, val = at(encoder, boundary, *images(24, 1)), at(encoder, boundary, *images(15, 2))
    numbers: Any = {"classes": CLASSES, "horizon": 400, "seed": SEED, "dtype": dtype}
    return Fit(encoder, select(recipe, encoder), boundary, train, val, average=average, **numbers)


def weights(fit: Fit) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fit.model.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
