"""Measure the memory of Ray's processes on this machine (Linux).

Sizes are PSS: memory that processes share counts once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import torch

from models import Encoder, Selection

SHARED = "/dev/shm"  # where Ray's object store lies


def taken(process: psutil.Process) -> tuple[int, int]:
    """Return a process's bytes in the object store, and all others."""
    store = rest = 0
    with contextlib.suppress(psutil.Error):  # it may have ended
        for part in process.memory_maps(grouped=True):
            if part.path.startswith(SHARED):
                store += part.pss
            else:
                rest += part.pss
    return store, rest


def trials_and_store(trials: Collection[int]) -> int:
    """Return the bytes of the trials, by their process ids, and of the whole object store."""
    me, total = psutil.Process(), 0
    for process in (me, *me.children(recursive=True)):
        store, rest = taken(process)
        total += store + (rest if process.pid in trials else 0)
    return total


class Bare:
    """A process that has imported a trial's modules and does nothing."""

    def taken(self) -> int:
        """Return the bytes of this process."""
        import tune.trials.trainable
        import tune.trials.trial_context

        _ = tune.trials.trial_context, tune.trials.trainable
        torch.set_num_threads(1)
        torch.ones(1).add(1)
        time.sleep(2)  # until all of them have imported the modules
        return taken(psutil.Process())[1]


def bare(count: int) -> int:
    """Return the bytes of `count` processes that have only imported a trial's modules."""
    actors: Sequence[Any] = [ray.remote(Bare).options(num_cpus=1).remote() for _ in range(count)]
    ray.get([actor.taken.remote() for actor in actors])
    each: list[int] = ray.get([actor.taken.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)
    return sum(each)


@dataclass(frozen=True)
class Held:
    """The bytes of the model that a trial holds.

    Attributes:
        encoder: all weights of the encoder, in the object store that all processes share.
        suffix: weights above the boundary; a gradient and two moments of the trained ones.
        kept: trained weights averaged over the steps, and those of the best evaluation.
    """

    encoder: int
    suffix: int
    kept: int

    @classmethod
    def of(cls, selection: Selection, encoder: Encoder, boundaries: Collection[str]) -> Held:
        """Count the bytes for a selection whose features are cached at `boundaries`."""
        above = encoder.suffix(selection.fed_from(boundaries))
        trained = selection.count
        weights = sum(parameter.numel() for parameter in above.parameters())
        whole = sum(parameter.numel() for parameter in encoder.parameters())
        return cls(4 * whole, 4 * weights + 12 * trained, 8 * trained)
