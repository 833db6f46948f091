"""Predict the seconds of each stage from sizes: the cost model of docs/scaling.md.

    python -m benchmarks.scaling [--measure | --grow [--rows images …]]

Operations and bytes are those of the encoder's layer groups (`models/flops.py`); speeds are given
for each machine. It prints a Markdown table for each setting, or with --measure one table of
predicted and measured times on this machine. With --grow it measures what stages cost on data and
searches of growing sizes (`benchmarks/growth.py`), in about 15 minutes, but for whole `runs`, and
1 GB of temporary files.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from benchmarks import growth
from benchmarks.geometry import BATCH, CONFIGS, fit_on_zeros, random_encoder
from benchmarks.limits import best_seconds, measured_machine
from models import Encoder, Recipe, select
from models.flops import group_flops, sample_flops
from tune.features.plan import STORE_SHARE


@dataclass(frozen=True)
class Machines:
    """Nodes of one kind, and the storage they share.

    Attributes:
        slots, cores: of each node.
        flops: operations a second of one slot in the training's precision: achieved, not peak.
        decoded: images a second that one core decodes and preprocesses from JPEG.
        storage: bytes a second between a node and the shared storage.
        memory: bytes of each node.
    """

    name: str
    nodes: int
    slots: int
    cores: int
    flops: float
    decoded: float
    storage: float
    memory: float


@dataclass(frozen=True)
class Work:
    """The sizes of a search.

    Attributes:
        model: open_clip's name of the encoder.
        image_bytes: bytes of one file.
        configurations: trials of a partition.
        share: share of full trials' samples that remains after early stopping.
        horizon: samples of a full trial.
        seeds: final fits of a winner.
        winners: winners of a partition.
        item: bytes of one number in the features.
        recipe: the blocks and kinds of a typical trial.
    """

    name: str
    model: str
    images: int
    image_bytes: float
    partitions: int
    configurations: int
    share: float
    horizon: int
    seeds: int = 3
    winners: int = 2
    item: int = 2
    recipe: Recipe = field(default_factory=lambda: Recipe(blocks="11-7"))


def stages(work: Work, on: Machines, encoder: Encoder) -> dict[str, tuple[float, str]]:
    """Return the seconds of each stage, and what bounds it."""
    forward = group_flops(encoder)
    selection = select(work.recipe, encoder)
    boundary = selection.boundary
    a_row = work.item * math.prod(encoder.shapes[boundary])
    features = work.images * a_row
    cost = sample_flops(encoder, forward, selection, boundary)
    slots = on.nodes * on.slots
    read = work.images * work.image_bytes / (on.storage * on.nodes)
    decoded = work.images / (on.decoded * on.cores * on.nodes)
    encoded = work.images * sum(forward) / (on.flops * slots)
    written = features / (on.storage * on.nodes)
    on_disk = features > STORE_SHARE * on.memory
    trials = work.partitions * work.configurations * work.share * work.horizon
    fits = work.partitions * work.winners * work.seeds * work.horizon
    step = max(cost / on.flops, a_row * on.slots / on.storage if on_disk else 0.0)
    return {
        "digest every file, the first time": (read, "storage"),
        "features: read, decode, encode": (
            max(read, decoded, encoded),
            ("storage", "decoding", "arithmetic")[int(np.argmax([read, decoded, encoded]))],
        ),
        "features: to disk": (written, "storage"),
        "search": (trials * step / slots, "arithmetic" if step == cost / on.flops else "storage"),
        "final fits": (fits * step / slots, "as in the search"),
    }


def table(work: Work, on: Machines) -> str:
    """Return the Markdown table of one search on some machines."""
    encoder = random_encoder(work.model)
    boundary = select(work.recipe, encoder).boundary
    a_row = work.item * math.prod(encoder.shapes[boundary])
    lines = [
        f"**{work.name} on {on.name}**: {work.images:,} images, {a_row / 1e3:.0f} KB each at "
        f"{boundary}, {work.images * a_row / 1e9:,.1f} GB a boundary; "
        f"{work.partitions} x {work.configurations} trials of {work.horizon:,} samples\n",
        "| stage | time | bound by |",
        "|---|---:|---|",
    ]
    total = 0.0
    for stage, (seconds, bound) in stages(work, on, encoder).items():
        total += seconds
        lines.append(f"| {stage} | {_time(seconds)} | {bound} |")
    return "\n".join([*lines, f"| all | {_time(total)} | |\n"])


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


BOX = Machines("a box of 8 A100", 1, 8, 64, 125e12, 150, 2e9, 1e12)
CLUSTER = replace(BOX, name="8 such boxes (64 GPUs)", nodes=8)
FOOD = Work("Food-101, ViT-B/32", "ViT-B-32", 101_000, 50e3, 11, 36, 0.5, 200_000)
IMAGENET = Work("ImageNet, ViT-B/32", "ViT-B-32", 1_281_167, 110e3, 11, 36, 0.5, 5_000_000)


def measured() -> str:
    """Compare predicted and measured times of ViT-B/32, on one core of this machine."""
    machine = measured_machine()
    encoder = random_encoder()
    forward = group_flops(encoder)
    lines = ["| on one core | predicted | measured | of the peak |", "|---|---:|---:|---:|"]
    for name, config in CONFIGS.items():
        if config["blocks"] == "none":
            continue
        selection = select(Recipe(**config), encoder)
        cost = BATCH * sample_flops(encoder, forward, selection, selection.boundary)
        seconds = best_seconds(fit_on_zeros(encoder, config).step)
        ideal = cost / machine.flops
        step = f"a step of {BATCH}: {name}"
        lines.append(f"| {step} | {ideal:.3g} s | {seconds:.3g} s | {ideal / seconds:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="compare with this machine")
    parser.add_argument("--grow", action="store_true", help="measure cost against sizes")
    parser.add_argument("--rows", nargs="+", choices=growth.ROWS, help="of --grow: not all tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.grow or arguments.rows:
        print(growth.table(arguments.rows or ()))
        return
    if arguments.measure:
        print(measured())
        return
    for work, on in ((FOOD, BOX), (IMAGENET, CLUSTER)):
        print(table(work, on))


if __name__ == "__main__":
    main()
