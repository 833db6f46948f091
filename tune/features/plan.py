"""The plan of a run: what it will do, and what that takes in time, memory and on disk."""

from __future__ import annotations

import itertools
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.filesize import decimal, pick_unit_and_suffix

from errors import InputError
from files import check_folder, nearest
from models.encoder import HEAD, PIXELS, Encoder
from models.flops import group_flops, sample_flops
from models.recipe import KINDS, Recipe
from models.selection import Selection, select
from partitions import Partition
from records import planned_seeds
from report.formatting import span
from search_spaces import Experiment, MethodConfig
from terminal import print_rows, say
from tune.features.cached_boundaries import choose_boundaries
from tune.workers.memory import own_memory

FEATURES_SHARE = 0.25  # of memory, for all features at the boundaries that are chosen
DISK_SHARE = 0.5  # of free disk, for the same if memory cannot hold even the smallest choice
STORE_SHARE = 0.3  # of memory, for features in the object store; larger arrays stay on disk
STORE_SLACK = 1.25  # times what stays in an object store: results of workers pass through it
FASTEST = {"GPU": 2e14, "CPU": 1e11}
"""Operations a second that no GPU, or no core, exceeds by much when it trains."""
ITEM_BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Plan:
    """Cells, trials and features of an experiment.

    Attributes:
        boundaries: the cached boundaries, from the lowest to "head".
        view_boundaries: those of them at which views are cached too.
        trained_bytes: the most that a fit of each method trains, in bytes of float32.
        image_bytes: bytes of one image's features at each cached boundary.
        listed: number of images in each split.
        images: number of those that some fit is given.
        partition_images: number of training images of each partition.
        cached_bytes: bytes of this encoder's features that are on disk already.
        encoder_flops: operations of the whole encoder's forward pass on one image.
        sample_flops: mean operations of each method's trials on one training sample, over its
            choices of layers: from the cached boundaries, and from pixels.
        data_lines: the description of the data set, to be printed.
        blocks: the rows of `block_rows`.
    """

    experiment: Experiment
    boundaries: tuple[str, ...]
    view_boundaries: tuple[str, ...]
    trained_bytes: dict[str, int]
    image_bytes: dict[str, int]
    listed: Mapping[str, int]
    images: Mapping[str, int]
    partition_images: Mapping[Partition, int]
    encoder_bytes: int
    cached_bytes: int
    free_disk: int
    memory: int
    encoder_flops: int
    sample_flops: dict[str, tuple[float, float]]
    data_lines: Sequence[str] = ()
    blocks: Sequence[Sequence[str]] = ()

    @property
    def seeds(self) -> dict[Partition, int]:
        """The number of final fits that a winner of each partition gets."""
        return final_seeds(self.experiment, self.partition_images)

    @property
    def arrays(self) -> list[int]:
        """Bytes of every feature array: of a split at a boundary, or of one view of train."""
        plain = [n * size for n in self.images.values() for size in self.image_bytes.values()]
        view = [self.images["train"] * self.image_bytes[b] for b in self.view_boundaries]
        return plain + view * self.experiment.views

    @property
    def disk_bytes(self) -> int:
        """Bytes of all features on disk."""
        return sum(self.arrays)

    def map_above(self, store: float = math.inf) -> int:
        """Return the bytes above which a feature array stays on disk rather than be put in memory.

        Memory takes as many arrays as fit, the small ones first. Every machine has a copy of
        them: the smallest object store, of `store` bytes, has room for all, and for the encoder.
        """
        room = min(self.memory * STORE_SHARE, store / STORE_SLACK - self.encoder_bytes)
        for array in sorted(self.arrays):
            room -= array
            if room < 0:
                return array - 1
        return max(self.arrays)

    def mapped_bytes(self, store: float = math.inf) -> int:
        """Count the bytes of arrays that stay on disk; see `map_above`."""
        above = self.map_above(store)
        return sum(array for array in self.arrays if array > above)

    @property
    def store_bytes(self) -> int:
        """Bytes the object store has to hold: arrays up to `map_above`, the encoder, and slack."""
        above = self.map_above()
        shared = sum(array for array in self.arrays if array <= above)
        return math.ceil(STORE_SLACK * (shared + self.encoder_bytes))

    @property
    def export_bytes(self) -> int:
        """The most bytes that the final fits' weights in the encoder take; mostly it is half."""
        final = self.experiment.final
        if not final.export:
            return 0
        cells, seeds = self.experiment.cells, self.seeds
        kept = dict.fromkeys(seeds, 1) if final.keep == "one" else seeds
        return sum(kept[cell.partition] * self.trained_bytes[cell.method] for cell in cells)

    @property
    def checkpoint_bytes(self) -> int:
        """The most bytes that checkpoints take: of waiting trials, and of each cell's best.

        A checkpoint holds weights, two moments, the best weights and the average. At most half of
        all trials wait at a rung.
        """
        kept = {n: 1 + math.ceil(self.experiment.trials(n) / 2) for n in self.trained_bytes}
        methods = [cell.method for cell in self.experiment.cells]
        return sum(kept[name] * 5 * self.trained_bytes[name] for name in methods)

    @property
    def search_flops(self) -> tuple[float, float]:
        """Operations of training all trials, if none is stopped: as planned, and from pixels."""
        experiment, planned, whole = self.experiment, 0.0, 0.0
        for name, (from_cache, from_pixels) in self.sample_flops.items():
            samples = experiment.trials(name) * sum(self._horizons(name))
            planned += samples * from_cache
            whole += samples * from_pixels
        return planned, whole

    def least_seconds(self, slot: Mapping[str, float], slots: int) -> float:
        """Return the least seconds that all final fits take, on slots of these resources.

        The first seed's may find themselves trained by the search.
        """
        flops = 0.0
        for name, (from_cache, _) in self.sample_flops.items():
            rows = [cell.partition for cell in self.experiment.cells if cell.method == name]
            further = zip(rows, self._horizons(name), strict=True)
            flops += from_cache * sum((self.seeds[row] - 1) * horizon for row, horizon in further)
        speed = sum(FASTEST.get(kind, 0.0) * count for kind, count in slot.items())
        return flops / (speed * slots)

    def _horizons(self, method: str) -> list[int]:
        return _horizons(self.experiment, method, self.partition_images)

    @property
    def trials(self) -> int:
        """Number of trials in all cells."""
        return sum(self.experiment.trials(cell.method) for cell in self.experiment.cells)

    def check(self, cache: Path) -> None:
        """Raise InputError if the features do not fit on the cache's disk, or cannot go there."""
        needed = self.disk_bytes - self.cached_bytes
        if needed > 0:
            check_folder(cache, "features.cache")
        if needed > self.free_disk:
            raise InputError(
                f"features.cache: {cache} has {decimal(self.free_disk)} free, but the features "
                f"take {decimal(needed)} more; allowed: another folder, features.dtype: float16 "
                "or fewer blocks to unfreeze"
            )

    def warning(self, out: Path) -> str | None:
        """Warn a user whose results may not fit on the disk of `out`; None if they fit."""
        most = self.export_bytes + self.checkpoint_bytes
        free = shutil.disk_usage(nearest(out)).free
        if most <= free:
            return None
        return f"--out: {out} has {decimal(free)} free, and a run may take {decimal(most)} there"

    def render_data(self, console: Console) -> None:
        """Print what the run is about: its images, their classes, what to know of them."""
        counts = []
        for split, count in self.listed.items():
            used = f" ({self.images[split]} used)" if self.images[split] < count else ""
            counts.append(f"{count} {split}{used}")
        images = ", ".join(counts)
        say(console, f"{self.experiment.name}: {self.experiment.data.source}, images: {images}")
        for line in self.data_lines:
            say(console, line)

    def render(self, console: Console) -> None:
        """Print the plan."""
        self.render_data(console)
        experiment = self.experiment
        say(console, f"encoder: {experiment.model.name} {experiment.model.pretrained or ''}")
        if self.blocks:
            print_rows(console, ("blocks", "parameters", "kinds", "input"), self.blocks)
        columns = ("cells", "trials a cell", "samples a trial", "a sample", "from pixels")
        cells, methods = Counter(cell.method for cell in experiment.cells), []
        for name in experiment.methods:
            trials, costs = experiment.trials(name), map(_flops, self.sample_flops[name])
            solved = not experiment.methods[name].takes_steps
            samples = "at once" if solved else span(self._horizons(name), "{:,}".format)
            methods.append((name, str(cells[name]), str(trials), samples, *costs))
        print_rows(console, ("method", *columns), methods)
        features = []
        for boundary in self.boundaries:
            size = self.image_bytes[boundary]
            views = experiment.views if boundary in self.view_boundaries else 0
            total = size * (sum(self.images.values()) + views * self.images["train"])
            on_disk = size * max(self.images.values()) > self.map_above()
            in_memory = "read from disk" if on_disk else decimal(total)
            features.append((boundary, decimal(size), decimal(total), in_memory))
        print_rows(console, ("boundary", "per image", "on disk", "in memory"), features)
        encoded = sum(self.images.values()) + self.images["train"] * experiment.views
        say(
            console,
            f"compute: features {_flops(encoded * self.encoder_flops)}, search at most "
            f"{_flops(self.search_flops[0])} (through the whole encoder: "
            f"{_flops(self.search_flops[1])})",
            wrap=True,
        )
        fits = sum(self.seeds[cell.partition] for cell in experiment.cells)
        say(
            console,
            f"{self.trials} trials, {fits} final fits; features take {decimal(self.disk_bytes)} of "
            f"{decimal(self.free_disk)} free on disk",
            wrap=True,
        )
        say(
            console,
            f"results: weights take up to {decimal(self.export_bytes // 2)} (twice that where "
            "float16 does not do), checkpoints of trials that wait up to "
            f"{decimal(self.checkpoint_bytes)} while it searches",
            wrap=True,
        )


def make_plan(
    experiment: Experiment,
    encoder: Encoder,
    listed: Mapping[str, int],
    images: Mapping[str, int],
    partition_images: Mapping[Partition, int],
    cache: Path,
    cached_bytes: int = 0,
    data_lines: Sequence[str] = (),
) -> Plan:
    """Plan an experiment; raise InputError if a method asks for blocks that are not there."""
    choices = {name: selections_of(name, m, encoder) for name, m in experiment.methods.items()}
    memory = own_memory()
    item = ITEM_BYTES[experiment.features.dtype]
    starts = {name: [choice.boundary for choice in found] for name, found in choices.items()}
    augmented = {b for name, m in experiment.methods.items() if m.views for b in starts[name]}
    image_bytes = {b: item * math.prod(encoder.shapes[b]) for b in encoder.boundaries}
    # Every configuration of a method is as likely as any other.
    wanted: Counter[int] = Counter()
    for name, boundaries in starts.items():
        fit_samples = sum(_horizons(experiment, name, partition_images))
        samples = experiment.trials(name) * fit_samples / len(boundaries)
        wanted.update({encoder.index(b): n * samples for b, n in Counter(boundaries).items()})
    views = images["train"] * experiment.views
    copies = {b: sum(images.values()) + views * (b in augmented) for b in encoder.boundaries}
    forward = group_flops(encoder)
    sizes = [copies[b] * size for b, size in image_bytes.items()]
    # A trial that starts from a probe refits it on the embedding. A trial on views needs them at
    # its boundary or below.
    lowest = {min(map(encoder.index, augmented))} if augmented else set()
    always = frozenset(({encoder.index(HEAD)} & wanted.keys()) | lowest)
    free_disk = shutil.disk_usage(nearest(cache)).free
    room = FEATURES_SHARE * memory
    if sum(sizes[i] for i in {min(wanted), *always}) > room:
        # Even the smallest set must be read from disk; so more may be.
        room = DISK_SHARE * (free_disk + cached_bytes)
    indices = choose_boundaries(sizes, wanted, forward, room, always)
    chosen = tuple(encoder.boundaries[i] for i in indices)
    return Plan(
        experiment=experiment,
        boundaries=chosen,
        view_boundaries=tuple(b for b in chosen if b in augmented),
        trained_bytes={
            n: 4 * max(choice.count for choice in found) for n, found in choices.items()
        },
        image_bytes={b: image_bytes[b] for b in chosen},
        listed=listed,
        images=images,
        partition_images=partition_images,
        encoder_bytes=sum(4 * p.numel() for p in encoder.parameters()),
        cached_bytes=cached_bytes,
        free_disk=free_disk,
        memory=memory,
        encoder_flops=sum(forward),
        sample_flops={
            name: _costs(found, encoder, forward, chosen) for name, found in choices.items()
        },
        data_lines=data_lines,
        blocks=block_rows(encoder),
    )


def final_seeds(experiment: Experiment, images: Mapping[Partition, int]) -> dict[Partition, int]:
    """Count the final seeds of each partition, by its training images."""
    seeds = experiment.final.seeds
    return {p: planned_seeds(seeds, p, count) for p, count in images.items()}


def block_rows(encoder: Encoder) -> list[tuple[str, ...]]:
    """List the blocks where they differ in what they take in, a row for those that do not.

    The columns are their numbers, the parameters and kinds of each, and the shape it takes in.
    """
    if len({encoder.shapes[f"block {i}"] for i in range(encoder.depth)}) < 2:
        return []
    described = []
    for i in range(encoder.depth):
        found = list(encoder.group(i + 1).parameters_by_kind())
        held = {kind for _, kind, _ in found}
        kinds = "+".join(kind for kind in KINDS if kind in held)
        shape = "x".join(map(str, encoder.shapes[f"block {i}"]))
        described.append((f"{sum(p.numel() for *_, p in found):,}", kinds, shape))
    rows: list[tuple[str, ...]] = []
    first = 0
    for row, equal in itertools.groupby(described):
        last = first + len(list(equal)) - 1
        rows.append((f"{first}" if first == last else f"{first}-{last}", *row))
        first = last + 1
    return rows


def _horizons(experiment: Experiment, method: str, images: Mapping[Partition, int]) -> list[int]:
    """Return the samples that a full fit of the method sees at each partition, by its images."""
    rows = [cell.partition for cell in experiment.cells if cell.method == method]
    return [experiment.horizon(method, images[row]) for row in rows]


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
    """Average the operations a sample over choices: from what is cached, and from pixels."""
    from_cache = [sample_flops(encoder, forward, c, c.fed_from(cached)) for c in choices]
    from_pixels = [sample_flops(encoder, forward, choice, PIXELS) for choice in choices]
    return mean(from_cache), mean(from_pixels)


def _flops(count: float) -> str:
    suffixes = [f"{prefix}FLOP" for prefix in ("", "k", "M", "G", "T", "P", "E")]
    unit, suffix = pick_unit_and_suffix(int(count), suffixes, 1000)
    return f"{count / unit:,.3g} {suffix}"
