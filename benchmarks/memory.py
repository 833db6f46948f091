"""Measure the memory of Ray's processes on this machine, part by part (Linux).

Sizes are PSS: memory that processes share counts once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import torch

from models import Encoder, Selection

SHARED = "/dev/shm"  # where Ray's object store lies
Parts = dict[str, int]


def taken(process: psutil.Process) -> Parts:
    """Return a process's bytes in the object store, in files (libraries), and of its own."""
    found = dict.fromkeys(("store", "files", "own"), 0)
    try:
        for part in process.memory_maps(grouped=True):
            kind = "own" if part.path.startswith("[") else "files"
            found["store" if part.path.startswith(SHARED) else kind] += part.pss
    except psutil.Error:  # it has ended
        pass
    return found


def parts(trials: Collection[int]) -> Parts:
    """Return the bytes of this process and all it started, by part; `trials` are process ids."""
    me = psutil.Process()
    found = dict.fromkeys(
        ("store", "trials, libraries", "trials, rest", "driver", "idle workers", "Ray's daemons"), 0
    )
    for process in (me, *me.children(recursive=True)):
        memory, kind = taken(process), _kind(process, trials, me)
        found["store"] += memory["store"]
        if kind == "trials":
            found["trials, libraries"] += memory["files"]
            found["trials, rest"] += memory["own"]
        else:
            found[kind] += memory["files"] + memory["own"]
    return found


def of_trials(found: Parts) -> int:
    """Return the bytes of the trials' processes, without the object store."""
    return found["trials, libraries"] + found["trials, rest"]


def _kind(process: psutil.Process, trials: Collection[int], me: psutil.Process) -> str:
    if process.pid in trials:
        return "trials"
    if process == me:
        return "driver"
    try:
        worker = "".join(process.cmdline()).startswith("ray::")
    except psutil.Error:  # it has ended
        worker = False
    return "idle workers" if worker else "Ray's daemons"


class Bare:
    """A process that has imported a trial's modules and does nothing."""

    def taken(self) -> Parts:
        """Return the bytes of this process."""
        import tune.trials.trainable
        import tune.trials.trial_context

        _ = tune.trials.trial_context, tune.trials.trainable
        torch.set_num_threads(1)
        torch.ones(1).add(1)
        time.sleep(2)  # until all of them have imported the modules
        return taken(psutil.Process())


def bare(count: int) -> Parts:
    """Return the bytes of `count` processes that have only imported a trial's modules."""
    actors: Sequence[Any] = [ray.remote(Bare).options(num_cpus=1).remote() for _ in range(count)]
    ray.get([actor.taken.remote() for actor in actors])
    each = ray.get([actor.taken.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)
    return {kind: sum(one[kind] for one in each) for kind in ("files", "own")}


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
