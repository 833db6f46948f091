"""Draws of rows, each by itself."""

from __future__ import annotations

from numpy.typing import ArrayLike

from data.splits import Indices, Walk


def partition_indices(
    labels: ArrayLike, percent: float, seed: int, groups: ArrayLike | None = None
) -> Indices:
    return Walk.of(labels, seed, groups).share(percent)


def shot_indices(
    labels: ArrayLike, shots: int, seed: int, groups: ArrayLike | None = None
) -> Indices:
    return Walk.of(labels, seed, groups).shots(shots)
