"""What a worker needs to run fits, on random features and without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tune.trials.trial_context
import tune.workers.object_store
from data import Draws, Listed
from models.loading import load_pretrained
from tests.runs.helpers import small
from tune.storage.storage import Storage
from tune.trials.trial_context import TrialContext
from tune.workers.object_store import SharedArray, SharedSplit


def random_context(
    monkeypatch: pytest.MonkeyPatch,
    boundaries: Sequence[str],
    fetching: Sequence[ModuleType] = (),
    kept_heads: Storage | None = None,
) -> tuple[TrialContext, Callable[[int], SharedSplit]]:
    """Make a context of 64 training images of two classes; also return what makes a split.

    `fetching` are further modules that fetch from the object store, which there is none of.
    """
    for module in (tune.trials.trial_context, tune.workers.object_store, *fetching):
        monkeypatch.setattr(module, "fetch", lambda found: found)
    experiment = small("data.partitions=[100]")
    pretrained: Any = load_pretrained(experiment.model)
    draw = np.random.default_rng(0)

    def split(count: int) -> SharedSplit:
        features = {}
        for boundary in boundaries:
            shape = (count, *pretrained.encoder.shapes[boundary])
            features[boundary] = SharedArray(draw.standard_normal(shape, dtype=np.float32))  # type: ignore[arg-type]
        return SharedSplit(np.arange(count) % 2, features)

    draws = Draws(Listed(np.arange(64) % 2), Listed(np.arange(40) % 2), seed=0, matched=False)
    data = ("run", "float32", ("cat", "dog"), split(64), split(40))
    return TrialContext(experiment, pretrained, *data, {100: 64}, draws, kept_heads), split
