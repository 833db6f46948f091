"""The learning rate over a fit."""

from __future__ import annotations

import math


def lr_share(samples: int, batch_size: int, horizon: int, warmup: float) -> float:
    """The learning rate's share of its peak at a step: linear warm-up, then a cosine to zero.

    `samples` have been seen before the step; `warmup` is a share of the horizon.
    """
    seen = samples / horizon
    if seen < warmup:
        return min(1.0, (samples + batch_size) / (warmup * horizon))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (seen - warmup) / (1 - warmup))))
