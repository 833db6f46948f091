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
from models.recipe import Recipe
from tune.bench import highest_boundary

SHARED = "/dev/shm"  # where Ray's object store lies
INTERVAL = 0.5
Parts = dict[str, int]


def shared_and_own(process: psutil.Process) -> tuple[int, int]:
    """A process's share of the object store, and of all else."""
    try:
        maps = process.memory_maps(grouped=True)
    except psutil.Error:  # it has ended
        return 0, 0
    shared = sum(part.pss for part in maps if part.path.startswith(SHARED))
    return shared, sum(part.pss for part in maps) - shared


def parts(trials: Collection[int]) -> Parts:
    """Bytes of this process and all it started; `trials` are the pids of trials."""
    me = psutil.Process()
    found = dict.fromkeys(("store", "trials", "driver", "idle workers", "Ray's daemons"), 0)
    for process in (me, *me.children(recursive=True)):
        shared, own = shared_and_own(process)
        found["store"] += shared
        found[_kind(process, trials, me)] += own
    return found


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
            if sample["trials"] >= self.peak.get("trials", 0):
                self.peak = sample


class Bare:
    """A process that has imported what a trial's has, and does nothing."""

    def own(self) -> int:
        import tune.bench
        import tune.trainable

        _ = tune.bench, tune.trainable
        torch.set_num_threads(1)
        torch.ones(1).add(1)
        time.sleep(2)  # until all of them have come so far
        return shared_and_own(psutil.Process())[1]


def bare_bytes(count: int) -> int:
    """What so many processes take that have only imported a trial's modules."""
    actors: Sequence[Any] = [ray.remote(Bare).options(num_cpus=1).remote() for _ in range(count)]
    ray.get([actor.own.remote() for actor in actors])
    found: int = sum(ray.get([actor.own.remote() for actor in actors]))
    for actor in actors:
        ray.kill(actor)
    return found


@dataclass(frozen=True)
class Held:
    """What a trial holds of the model, in bytes.

    Attributes:
        encoder: the weights of all of it, of which each process has a copy to start from.
        suffix: weights above the boundary, and a gradient and two moments of what is trained.
    """

    encoder: int
    suffix: int

    @classmethod
    def of(cls, recipe: Recipe, encoder: Encoder, boundaries: Collection[str]) -> Held:
        above = encoder.suffix(highest_boundary(encoder, recipe, boundaries))
        trained = sum(
            encoder.group(i).get_parameter(name).numel()
            for i, name in recipe.trained_parameters(encoder)
        )
        weights = sum(parameter.numel() for parameter in above.parameters())
        whole = sum(parameter.numel() for parameter in encoder.parameters())
        return cls(4 * whole, 4 * weights + 12 * trained)
