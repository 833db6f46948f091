"""Adapted weights as differences from the encoder's own, in float16: half the bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from models.calibration import BLOCK
from models.encoder import Encoder
from models.selection import Selection

CLOSE = 1e-3  # the most that a probability may differ for two models to be alike
Scales = dict[str, float]
"""What a stored difference is multiplied by, by the key of its weight; 0 where none is stored."""


def as_deltas(
    weights: Mapping[str, Tensor], selection: Selection, encoder: Encoder
) -> tuple[dict[str, Tensor], Scales]:
    """Return what is to be stored of weights, and its scales; a head stays as it is.

    Differences are scaled to 1 at most by a power of two, as they may be too small for float16.
    What has not changed is not stored.
    """
    stored, scales = dict(weights), Scales()
    for key, start in _starts(selection, encoder).items():
        delta = stored.pop(key) - start
        largest = float(delta.abs().max())
        scales[key] = 2.0 ** math.ceil(math.log2(largest)) if largest else 0.0
        if largest:
            stored[key] = (delta / scales[key]).half()
    return stored, scales


def from_deltas(
    stored: Mapping[str, Tensor], scales: Scales, selection: Selection, encoder: Encoder
) -> dict[str, Tensor]:
    """Return the weights that `as_deltas` stored, on the CPU; without scales they are whole.

    What is missing stays missing, and a delta of another shape is left as it is.
    """
    weights = dict(stored)
    for key, start in _starts(selection, encoder).items() if scales else ():
        if scales.get(key) == 0.0:
            weights[key] = start.clone()
        elif key in scales and key in stored and stored[key].shape == start.shape:
            weights[key] = start + stored[key].float() * scales[key]
    return weights


def alike(logits: Tensor, others: Tensor) -> bool:
    """Whether two models' logits (n, C) choose the same classes, with the same probabilities."""
    rows = max(1, BLOCK // logits.shape[1])  # of many classes, copies of all fill the memory
    return all(map(_alike, logits.split(rows), others.split(rows)))


def _alike(logits: Tensor, others: Tensor) -> bool:
    same = torch.equal(logits.argmax(-1), others.argmax(-1))
    apart = (logits.softmax(-1) - others.softmax(-1)).abs()
    return same and bool((apart <= CLOSE).all())


def _starts(selection: Selection, encoder: Encoder) -> dict[str, Tensor]:
    return {
        p.key: encoder.group(p.group).get_parameter(p.name).detach().cpu()
        for p in selection.parameters
    }
