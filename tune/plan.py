"""What a run will do, and what it will take, before it does any of it."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from errors import InputError
from models.encoder import HEAD, Encoder
from models.recipe import Recipe
from tune.experiment import Experiment, MethodConfig

ALL_BOUNDARIES_SHARE = 0.25  # of memory: below it, every boundary a trial could use is kept
STORE_SHARE = 0.3  # of memory, for features in the object store; larger arrays are mapped
ITEM_BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Plan:
    """Groups, trials and features of an experiment.

    Attributes:
        boundaries: to be cached, from the lowest to "head".
        view_boundaries: those of them at which views are cached too.
        trained_bytes: of the most that a fit of each method trains.
        image_bytes: of one image's features at each of them.
        images: of each split.
        cached_bytes: of this encoder's features that are on disk.
        free_disk, memory: bytes on the cache's disk, and of this machine.
    """

    experiment: Experiment
    boundaries: tuple[str, ...]
    view_boundaries: tuple[str, ...]
    trained_bytes: dict[str, int]
    image_bytes: dict[str, int]
    images: dict[str, int]
    encoder_bytes: int
    cached_bytes: int
    free_disk: int
    memory: int

    @property
    def arrays(self) -> list[int]:
        """Bytes of every array of features: a split's at a boundary, or a view's of train."""
        plain = [n * size for n in self.images.values() for size in self.image_bytes.values()]
        view = [self.images["train"] * self.image_bytes[b] for b in self.view_boundaries]
        return plain + view * self.experiment.views

    @property
    def disk_bytes(self) -> int:
        """Features of all splits at all boundaries; those to be mapped are there twice."""
        return sum(2 * array if array > self.map_above else array for array in self.arrays)

    @property
    def map_above(self) -> int:
        """Bytes above which a feature array is mapped from disk rather than put in memory.

        As many arrays as fit are put in memory, the small ones first.
        """
        room = self.memory * STORE_SHARE
        for array in sorted(self.arrays):
            room -= array
            if room < 0:
                return array - 1
        return max(self.arrays)

    @property
    def store_bytes(self) -> int:
        """What the object store has to hold: arrays below `map_above`, encoder, and slack."""
        shared = sum(array for array in self.arrays if array <= self.map_above)
        return int(1.25 * (shared + self.encoder_bytes))

    @property
    def export_bytes(self) -> int:
        """What the final fits' weights in the encoder take at most."""
        if not self.experiment.final.export:
            return 0
        partitions = len(self.experiment.data.partitions)
        return self.experiment.final.seeds * partitions * sum(self.trained_bytes.values())

    @property
    def checkpoint_bytes(self) -> int:
        """What checkpoints take at most: of trials that wait at a rung, and of each group's best.

        Weights, two moments, the best weights and the average, of one in `reduction_factor` of
        the trials at the first rung and of fewer above: of half of all, at most.
        """
        kept = {n: 1 + math.ceil(self.experiment.trials(n) / 2) for n in self.trained_bytes}
        a_row = sum(kept[name] * 5 * size for name, size in self.trained_bytes.items())
        return a_row * len(self.experiment.data.partitions)

    @property
    def trials(self) -> int:
        methods = self.experiment.methods
        per_partition = sum(self.experiment.trials(method) for method in methods)
        return per_partition * len(self.experiment.data.partitions)

    def check(self, cache: Path) -> None:
        """Raises InputError if the features do not fit on the cache's disk."""
        needed = self.disk_bytes - self.cached_bytes
        if needed > self.free_disk:
            raise InputError(
                f"features.cache: {cache} has {_size(self.free_disk)} free, but the features "
                f"take {_size(needed)} more; allowed: another folder, features.dtype: float16 "
                "or fewer blocks to unfreeze"
            )

    def warning(self, out: Path) -> str | None:
        """What to tell a user whose results may not fit where they go."""
        most = self.export_bytes + self.checkpoint_bytes
        free = shutil.disk_usage(_existing(out)).free
        if most <= free:
            return None
        return f"--out: {out} has {_size(free)} free, and a run may take {_size(most)} there"

    def render(self, console: Console) -> None:
        """Print the plan."""
        experiment = self.experiment
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        console.print(f"[bold]{experiment.name}[/]: {experiment.data.source}, images: {images}")
        console.print(f"encoder: {experiment.model.name} {experiment.model.pretrained or ''}")
        methods = Table("method", "groups", "trials a group", "samples a trial", box=None)
        partitions = len(experiment.data.partitions)
        for name in experiment.methods:
            trials, samples = experiment.trials(name), experiment.horizon(name)
            methods.add_row(name, str(partitions), str(trials), f"{samples:,}")
        console.print(methods)
        features = Table("boundary", "per image", "on disk", "in memory", box=None)
        for boundary in self.boundaries:
            size = self.image_bytes[boundary]
            views = experiment.views if boundary in self.view_boundaries else 0
            total = size * (sum(self.images.values()) + views * self.images["train"])
            mapped = size * max(self.images.values()) > self.map_above
            features.add_row(
                boundary, _size(size), _size(total), "memory-mapped" if mapped else _size(total)
            )
        console.print(features)
        fits = experiment.final.seeds * len(experiment.methods) * partitions
        console.print(
            f"{self.trials} trials, {fits} final fits; features take {_size(self.disk_bytes)} of "
            f"{_size(self.free_disk)} free on disk"
        )
        console.print(
            f"results: weights take up to {_size(self.export_bytes)}, checkpoints of trials that "
            f"wait up to {_size(self.checkpoint_bytes)} while it searches"
        )


def make_plan(
    experiment: Experiment,
    encoder: Encoder,
    images: dict[str, int],
    cache: Path,
    cached_bytes: int = 0,
) -> Plan:
    """Plan an experiment on an encoder.

    Raises:
        InputError: a method asks for blocks that the encoder does not have.
    """
    reachable = {
        name: _boundaries(name, method, encoder) for name, method in experiment.methods.items()
    }
    memory = psutil.virtual_memory().total
    item = ITEM_BYTES[experiment.features.dtype]
    augmented = {b for name, found in reachable.items() if experiment.methods[name].views
                 for b in found}  # fmt: skip

    def size(boundaries: Sequence[str]) -> int:
        views = {b: experiment.views if b in augmented else 0 for b in boundaries}
        return sum(
            (sum(images.values()) + views[b] * images["train"])
            * item
            * math.prod(encoder.shapes[b])
            for b in boundaries
        )

    chosen = _ordered({b for found in reachable.values() for b in found}, encoder)
    if size(chosen) > ALL_BOUNDARIES_SHARE * memory:
        lowest = {min(found, key=encoder.index) for found in reachable.values()}
        chosen = _ordered(lowest | {HEAD}, encoder)
    return Plan(
        experiment=experiment,
        boundaries=chosen,
        view_boundaries=_ordered(augmented & {*chosen}, encoder),
        trained_bytes={
            name: _trained_bytes(method, encoder) for name, method in experiment.methods.items()
        },
        image_bytes={b: item * math.prod(encoder.shapes[b]) for b in chosen},
        images=images,
        encoder_bytes=sum(4 * p.numel() for p in encoder.parameters()),
        cached_bytes=cached_bytes,
        free_disk=shutil.disk_usage(_existing(cache)).free,
        memory=memory,
    )


def _boundaries(name: str, method: MethodConfig, encoder: Encoder) -> set[str]:
    """Every boundary that a trial of the method can start from."""
    space = method.parsed
    found = set()
    for blocks, kinds in itertools.product(space.reachable("blocks"), space.reachable("kinds")):
        try:
            found.add(Recipe(blocks=blocks, kinds=kinds).boundary(encoder))
        except InputError as error:
            raise InputError(f"methods.{name}.space.{error}") from None
    return found


def _trained_bytes(method: MethodConfig, encoder: Encoder) -> int:
    """Bytes, in float32, of the most that a fit of the method trains in the encoder."""
    space = method.parsed
    sizes = []
    for blocks, kinds in itertools.product(space.reachable("blocks"), space.reachable("kinds")):
        trained = Recipe(blocks=blocks, kinds=kinds).trained_parameters(encoder)
        sizes.append(sum(encoder.group(i).get_parameter(name).numel() for i, name in trained))
    return 4 * max(sizes)


def _ordered(boundaries: set[str], encoder: Encoder) -> tuple[str, ...]:
    return tuple(sorted(boundaries, key=encoder.index))


def _existing(path: Path) -> Path:
    """The nearest ancestor that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
