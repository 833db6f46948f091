"""What a run will do, and what it will take, before it does any of it."""

from __future__ import annotations

import itertools
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import psutil
from rich.console import Console
from rich.table import Table

from errors import InputError
from files import check_folder, nearest
from models.encoder import HEAD, PIXELS, Encoder
from models.flops import group_flops, sample_flops
from models.recipe import Recipe
from models.selection import Selection, select
from search_spaces.schema import Experiment, MethodConfig
from tune.features.cached_boundaries import choose_boundaries

FEATURES_SHARE = 0.25  # of memory, for all features at the boundaries that are chosen
DISK_SHARE = 0.5  # of what is free, for the same where memory cannot hold even the lowest
STORE_SHARE = 0.3  # of memory, for features in the object store; larger arrays are mapped
ITEM_BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Plan:
    """Cells, trials and features of an experiment.

    Attributes:
        boundaries: to be cached, from the lowest to "head".
        view_boundaries: those of them at which views are cached too.
        trained_bytes: of the most that a fit of each method trains, in float32.
        image_bytes: of one image's features at each of them.
        images: of each split.
        cached_bytes: of this encoder's features that are on disk.
        free_disk, memory: bytes on the cache's disk, and of this machine.
        encoder_flops: operations of the whole encoder's forward pass on one image.
        sample_flops: what a trial of each method spends on a training sample, in the mean over
            its choices of layers; and what it would spend from pixels.
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
    encoder_flops: int
    sample_flops: dict[str, tuple[float, float]]

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
        """What checkpoints take at most: of trials that wait at a rung, and of each cell's best.

        Weights, two moments, the best weights and the average, of one in `reduction_factor` of
        the trials at the first rung and of fewer above: of half of all, at most.
        """
        kept = {n: 1 + math.ceil(self.experiment.trials(n) / 2) for n in self.trained_bytes}
        a_row = sum(kept[name] * 5 * size for name, size in self.trained_bytes.items())
        return a_row * len(self.experiment.data.partitions)

    @property
    def search_flops(self) -> tuple[float, float]:
        """Operations of all trials' training, if none is stopped; and the same from pixels."""
        samples = {
            name: len(self.experiment.data.partitions)
            * self.experiment.trials(name)
            * self.experiment.horizon(name)
            for name in self.sample_flops
        }
        ours, whole = zip(
            *(
                [samples[name] * cost for cost in costs]
                for name, costs in self.sample_flops.items()
            ),
            strict=True,
        )
        return sum(ours), sum(whole)

    @property
    def trials(self) -> int:
        methods = self.experiment.methods
        per_partition = sum(self.experiment.trials(method) for method in methods)
        return per_partition * len(self.experiment.data.partitions)

    def check(self, cache: Path) -> None:
        """Raises InputError if the features do not fit on the cache's disk, or cannot go there."""
        needed = self.disk_bytes - self.cached_bytes
        if needed > 0:
            check_folder(cache, "features.cache")
        if needed > self.free_disk:
            raise InputError(
                f"features.cache: {cache} has {_size(self.free_disk)} free, but the features "
                f"take {_size(needed)} more; allowed: another folder, features.dtype: float16 "
                "or fewer blocks to unfreeze"
            )

    def warning(self, out: Path) -> str | None:
        """What to tell a user whose results may not fit where they go."""
        most = self.export_bytes + self.checkpoint_bytes
        free = shutil.disk_usage(nearest(out)).free
        if most <= free:
            return None
        return f"--out: {out} has {_size(free)} free, and a run may take {_size(most)} there"

    def render(self, console: Console) -> None:
        """Print the plan."""
        experiment = self.experiment
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        console.print(f"[bold]{experiment.name}[/]: {experiment.data.source}, images: {images}")
        console.print(f"encoder: {experiment.model.name} {experiment.model.pretrained or ''}")
        columns = ("cells", "trials a cell", "samples a trial", "a sample", "from pixels")
        methods = Table("method", *columns, box=None)
        partitions = len(experiment.data.partitions)
        for name in experiment.methods:
            trials, samples = experiment.trials(name), experiment.horizon(name)
            costs = [_flops(cost) for cost in self.sample_flops[name]]
            methods.add_row(name, str(partitions), str(trials), f"{samples:,}", *costs)
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
        encoded = sum(self.images.values()) + self.images["train"] * experiment.views
        console.print(
            f"compute: features {_flops(encoded * self.encoder_flops)}, search at most "
            f"{_flops(self.search_flops[0])} (through the whole encoder: "
            f"{_flops(self.search_flops[1])})"
        )
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
    choices = {name: selections_of(name, m, encoder) for name, m in experiment.methods.items()}
    memory = psutil.virtual_memory().total
    item = ITEM_BYTES[experiment.features.dtype]
    starts = {name: [choice.boundary for choice in found] for name, found in choices.items()}
    augmented = {b for name, m in experiment.methods.items() if m.views for b in starts[name]}
    image_bytes = {b: item * math.prod(encoder.shapes[b]) for b in encoder.boundaries}
    # Every configuration of a method is as likely as any other.
    wanted: Counter[int] = Counter()
    for name, boundaries in starts.items():
        samples = experiment.trials(name) * experiment.horizon(name) / len(boundaries)
        wanted.update({encoder.index(b): n * samples for b, n in Counter(boundaries).items()})
    copies = {b: sum(images.values()) + images["train"] * experiment.views * (b in augmented)
              for b in encoder.boundaries}  # fmt: skip
    forward = group_flops(encoder)
    sizes = [copies[b] * size for b, size in image_bytes.items()]
    # Every trial that starts from a probe refits it, from the embedding; and what trains on views
    # needs them at its boundary or below.
    always = frozenset({encoder.index(HEAD)} & wanted.keys()) | _floor(augmented, encoder)
    free_disk = shutil.disk_usage(nearest(cache)).free
    room = FEATURES_SHARE * memory
    if sum(sizes[i] for i in {min(wanted), *always}) > room:
        # The least there is must be mapped from disk, where it lies twice. Then so may more.
        room = DISK_SHARE * (free_disk + cached_bytes) / 2
    indices = choose_boundaries(sizes, wanted, forward, room, always)
    chosen = tuple(encoder.boundaries[i] for i in indices)
    return Plan(
        experiment=experiment,
        boundaries=chosen,
        view_boundaries=_ordered(augmented & {*chosen}, encoder),
        trained_bytes={
            n: 4 * max(choice.count for choice in found) for n, found in choices.items()
        },
        image_bytes={b: image_bytes[b] for b in chosen},
        images=images,
        encoder_bytes=sum(4 * p.numel() for p in encoder.parameters()),
        cached_bytes=cached_bytes,
        free_disk=free_disk,
        memory=memory,
        encoder_flops=sum(forward),
        sample_flops={
            name: _costs(found, encoder, forward, chosen) for name, found in choices.items()
        },
    )


def selections_of(name: str, method: MethodConfig, encoder: Encoder) -> list[Selection]:
    """List every choice of layers that a trial of the method can make."""
    space, found = method.parsed, []
    for blocks, kinds in itertools.product(space.reachable("blocks"), space.reachable("kinds")):
        try:
            found.append(select(Recipe(blocks=blocks, kinds=kinds), encoder))
        except InputError as error:
            raise InputError(f"methods.{name}.space.{error}") from None
    return found


def _costs(
    choices: list[Selection], encoder: Encoder, forward: tuple[int, ...], cached: tuple[str, ...]
) -> tuple[float, float]:
    """Operations a sample in the mean over choices, from what is cached and from pixels."""
    from_cache = [sample_flops(encoder, forward, c, c.fed_from(cached)) for c in choices]
    from_pixels = [sample_flops(encoder, forward, choice, PIXELS) for choice in choices]
    return mean(from_cache), mean(from_pixels)


def _floor(augmented: set[str], encoder: Encoder) -> frozenset[int]:
    """The lowest boundary at which views are wanted, if any is."""
    return frozenset([min(encoder.index(b) for b in augmented)] if augmented else [])


def _ordered(boundaries: set[str], encoder: Encoder) -> tuple[str, ...]:
    return tuple(sorted(boundaries, key=encoder.index))


def _size(count: float) -> str:
    return _scaled(count, ("B", "KB", "MB", "GB", "TB"))


def _flops(count: float) -> str:
    return _scaled(count / 1e6, ("MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def _scaled(count: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} {units[-1]}"
