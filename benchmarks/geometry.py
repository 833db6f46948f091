"""Compare an epoch, and 32 probes, of ours with programs that run the whole encoder.

The encoder is a ViT-B/32 with random weights (no download); the images are JPEGs of 500 x 375, cut
from scikit-learn's two sample photos. All programs train the same configuration from the same start
on the same order of images, on one thread. The rows assert that losses are equal step by step.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from benchmarks.jobs import Answer, Job, Trial
from benchmarks.limits import Machine, counted_flops, run_python
from benchmarks.table import Row
from models import Device, Encoder, FeatureDataset, Fit, Recipe, select
from models.towers import split_tower

MODEL, CLASSES = "ViT-B-32", 101
IMAGES, BATCH, EPOCHS = 64, 32, 3  # the first epoch warms up and is not measured
STEPS = IMAGES // BATCH  # of an epoch
LOSS_TOLERANCE = 1e-4  # relative
HALF_TOLERANCE = 0.05
PROBE_EPOCHS = 10

BANK: dict[str, Any] = {
    "head_lr": [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2],
    "weight_decay": [0.0, 1e-3, 1e-2, 1e-1],
}
FROZEN = {"blocks": "none", "head_lr": 1e-3, "weight_decay": 0.0, "batch_size": BATCH}
TUNED = {"lr": 1e-4, "llrd_decay": 0.8, "head_lr": 1e-3, "weight_decay": 0.01, "batch_size": BATCH}
CONFIGS: dict[str, dict[str, Any]] = {
    "frozen": FROZEN,
    "LayerNorm of blocks 11-7": TUNED | {"blocks": "11-7", "kinds": "ln"},
    "everything in blocks 11-7": TUNED | {"blocks": "11-7", "kinds": "ln+attn+mlp"},
    "everything in block 11": TUNED | {"blocks": "11", "kinds": "ln+attn+mlp"},
}


def photos(folder: Path, count: int) -> list[tuple[str, int]]:
    """Write `count` JPEGs, random crops of two photographs, with random labels."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(array) for array in load_sample_images().images]
    written = []
    for i in range(count):
        image = sources[i % len(sources)]
        width = int(rng.integers(320, image.width))
        height = width * 3 // 4
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, max(0, image.height - height) + 1))
        path = folder / f"{i}.jpg"
        image.crop((left, top, left + width, top + height)).resize((500, 375)).save(path)
        written.append((str(path), int(rng.integers(CLASSES))))
    return written


def job(folder: Path) -> Job:
    """Make the images and a checkpoint of random weights, in a job without trials."""
    torch.manual_seed(0)
    checkpoint = folder / "random.pt"
    torch.save(open_clip.create_model(MODEL).state_dict(), checkpoint)
    return Job(MODEL, str(checkpoint), photos(folder, IMAGES), [], CLASSES, [])


def random_encoder(model: str = MODEL) -> Encoder:
    """Build an encoder of random weights."""
    return split_tower(open_clip.create_model(model).visual)


def fit_on_zeros(
    encoder: Encoder,
    config: dict[str, Any],
    images: int = BATCH,
    device: Device | None = None,
    cuda_graph: bool = False,
) -> Fit:
    """Make a fit that trains on blank images at the boundary of `config`."""
    selection = select(Recipe(**config), encoder)
    boundary = selection.boundary
    features = np.zeros((images, *encoder.shapes[boundary]), np.float32)
    examples = FeatureDataset(features, np.zeros(images, np.int64), np.arange(images))
    return Fit(
        *(encoder, selection, boundary, examples, examples),
        classes=CLASSES,
        horizon=10**6,
        seed=0,
        device=device,
        cuda_graph=cuda_graph,
    )


def least_seconds(config: dict[str, Any], machine: Machine) -> float:
    """Return the least seconds of our epoch: its operations, and the features that it reads."""
    encoder = random_encoder()
    boundary = select(Recipe(**config), encoder).boundary
    flops = counted_flops(fit_on_zeros(encoder, config).step)
    moved = 4 * BATCH * math.prod(encoder.shapes[boundary])
    return machine.seconds(STEPS * flops, STEPS * moved)


def naive_flops(config: dict[str, Any]) -> int:
    """Count the operations of an epoch through the whole encoder."""
    from benchmarks.peers.naive import Adapted, parameter_groups

    visual = open_clip.create_model(MODEL).visual.eval()
    model = Adapted(visual, visual.output_dim, CLASSES)
    parameter_groups(model, config)

    def step() -> None:
        loss: Tensor = model(torch.zeros(BATCH, 3, 224, 224)).square().mean()
        torch.autograd.backward(loss)

    return STEPS * counted_flops(step)


def run_peer(peer: str, job: Job, *options: str) -> tuple[Answer, int]:
    """Return a peer's answer, and its peak memory in bytes."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        job.write(Path(file.name))
        output, _, memory = run_python(["-m", f"benchmarks.peers.{peer}", file.name, *options])
    return Answer.parse(output), memory


def check_losses(
    what: str, who: str, theirs: Answer, ours: Answer, tolerance: float = LOSS_TOLERANCE
) -> str:
    """Check that losses are equal step by step, and say so; ours may have more steps.

    Raises:
        AssertionError: the losses differ by more than the tolerance.
    """
    worst = 0.0
    for head, trial in enumerate(theirs.trials):
        a = np.array(trial.losses)[:, 0]
        b = np.array(ours.trials[0].losses)[: len(a), head]
        worst = max(worst, float(np.abs(a / b - 1).max()))
    if worst > tolerance:
        raise AssertionError(f"{what}: the losses of {who} differ from ours by {worst:.1e}")
    return f"losses to {worst:.0e}"


def an_epoch(answer: Answer) -> float:
    """Return the median seconds of an epoch after the first."""
    return median(answer.trials[0].seconds[1:])


def epoch_rows(base: Job, name: str, config: dict[str, Any], machine: Machine) -> list[Row]:
    """Compare an epoch of one configuration."""
    horizon, frozen = EPOCHS * IMAGES, config["blocks"] == "none"
    reports = [IMAGES * (i + 1) for i in range(EPOCHS)]
    theirs = replace(base, trials=[Trial(config, horizon, reports)])
    # An epoch of a probe is too short to time: train more of them, at rate zero.
    more = [IMAGES * (i + 1) for i in range(100 if frozen else EPOCHS)]
    ours, our_memory = run_peer("ours", replace(base, trials=[Trial(config, horizon, more)]))
    bound = machine.seconds(naive_flops(config)) / least_seconds(config, machine)
    what, rows = f"an epoch of {name}", []
    for who in ("naive", "seed") if frozen else ("naive",):
        answer, memory = run_peer(who, theirs)
        row = Row(
            what,
            who,
            seconds=an_epoch(answer),
            ratio=an_epoch(answer) / an_epoch(ours),
            bound=bound if who == "naive" else None,
            same=check_losses(what, who, answer, ours),
            memory=memory,
        )
        rows.append(row)
    rows.append(Row(what, "ours", an_epoch(ours), memory=our_memory))
    # On a processor without these instructions it takes a hundred times as long.
    if not frozen and torch.cpu.get_capabilities()["avx512_bf16"]:
        answer, memory = run_peer("ours", replace(theirs, precision="bfloat16"))
        same = check_losses(what, "bfloat16", answer, ours, HALF_TOLERANCE)
        seconds, who = an_epoch(answer), "ours in bfloat16: naive over it"
        rows.append(Row(what, who, seconds, rows[0].seconds / seconds, same=same, memory=memory))
    return rows


def bank_rows(base: Job, naive_epoch: float) -> list[Row]:
    """Compare 32 probes, which ours trains as one bank, without and with the features' time."""
    horizon = PROBE_EPOCHS * IMAGES
    singles = [
        Trial(FROZEN | {"head_lr": lr, "weight_decay": decay}, horizon, [horizon])
        for lr in BANK["head_lr"]
        for decay in BANK["weight_decay"]
    ]
    bank = Trial(FROZEN | BANK, horizon, [horizon])
    ours, our_memory = run_peer("ours", replace(base, trials=[bank]))
    seed, memory = run_peer("seed", replace(base, trials=singles))
    same = check_losses("a bank of 32 probes", "seed", seed, ours)
    naive_seconds = len(singles) * PROBE_EPOCHS * naive_epoch
    alone, theirs = sum(ours.trials[0].seconds), sum(sum(t.seconds) for t in seed.trials)
    rows = []
    for what, extra, seed_extra in (
        ("32 probes, 10 epochs, from features", 0.0, 0.0),
        ("32 probes, 10 epochs, features included", ours.once, seed.once),
    ):
        mine, seeds = alone + extra, theirs + seed_extra
        rows += [
            Row(what, "naive", naive_seconds, naive_seconds / mine, extrapolated=True),
            Row(what, "seed", seeds, seeds / mine, same=same, memory=memory),
            Row(what, "ours", mine, memory=our_memory),
        ]
    return rows


def geometry_rows(machine: Machine, folder: Path) -> Iterator[Row]:
    """Compare epochs of four configurations, and 32 probes."""
    base = job(folder)
    for name, config in CONFIGS.items():
        rows = epoch_rows(base, name, config, machine)
        yield from rows
        if config["blocks"] == "none":
            yield from bank_rows(base, rows[0].seconds)
