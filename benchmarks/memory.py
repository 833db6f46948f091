"""What the processes of a Ray on this machine take, part by part (Linux): PSS, so that what several
of them share is counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import torch

from models.encoder import Encoder
from models.selection import Selection

SHARED = "/dev/shm"  # where Ray's object store lies
INTERVAL = 0.5
Parts = dict[str, int]


def taken(process: psutil.Process) -> Parts:
    """A process's share of the object store, of files (libraries) in memory, and of all else."""
    found = dict.fromkeys(("store", "files", "own"), 0)
    try:
        for part in process.memory_maps(grouped=True):
            kind = "own" if part.path.startswith("[") else "files"
            found["store" if part.path.startswith(SHARED) else kind] += part.pss
    except psutil.Error:  # it has ended
        pass
    return found


def parts(trials: Collection[int]) -> Parts:
    """Bytes of this process and all it started; `trials` are the pids of trials."""
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
    """What the trials' processes take beside the object store."""
    return found.get("trials, libraries", 0) + found.get("trials, rest", 0)


def _kind(process: psutil.Process, trials: Collection[int], me: psutil.Process) -> str:
    if process.pid in trials:
        return "trials"
    if process == me:
        return "driver"
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        title = ""
    return "idle workers" if title.startswith("ray::") else "Ray's daemons"


class Sampler:
    """Looks again and again while its block runs; keeps the sample with the largest trials.

    Args:
        trials: gives the pids of trials.
    """

    def __init__(self, trials: Callable[[], Collection[int]]) -> None:
        self._trials, self._done = trials, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak: Parts = {}

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(INTERVAL):
            sample = parts(self._trials())
            if of_trials(sample) >= of_trials(self.peak):
                self.peak = sample


class Bare:
    """A process that has imported what a trial's has, and does nothing."""

    def taken(self) -> Parts:
        import tune.trials.trainable
        import tune.trials.trial_context

        _ = tune.trials.trial_context, tune.trials.trainable
        torch.set_num_threads(1)
        torch.ones(1).add(1)
        time.sleep(2)  # until all of them have come so far
        return taken(psutil.Process())


def bare(count: int) -> Parts:
    """What so many processes take that have only imported a trial's modules."""
    actors: Sequence[Any] = [ray.remote(Bare).options(num_cpus=1).remote() for _ in range(count)]
    ray.get([actor.taken.remote() for actor in actors])
    each = ray.get([actor.taken.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)
    return {kind: sum(one[kind] for one in each) for kind in ("files", "own")}


@dataclass(frozen=True)
class Held:
    """What a trial holds of the model, in bytes.

    Attributes:
        encoder: the weights of all of it, in the object store, which all processes share.
        suffix: weights above the boundary, and a gradient and two moments of what is trained.
        kept: the average over the steps, and the best evaluation's weights, of what is trained:
            what a fit that has ended is chosen from.
    """

    encoder: int
    suffix: int
    kept: int

    @classmethod
    def of(cls, selection: Selection, encoder: Encoder, boundaries: Collection[str]) -> Held:
        above = encoder.suffix(selection.fed_from(boundaries))
        trained = selection.count
        weights = sum(parameter.numel() for parameter in above.parameters())
        whole = sum(parameter.numel() for parameter in encoder.parameters())
        return cls(4 * whole, 4 * weights + 12 * trained, 8 * trained)
