"""Fine-tune CLIP as users of open_clip write it; with --ray, as Ray Tune's tutorial does.

    python -m benchmarks.peers.naive JOB.json [--ray]

After https://docs.ray.io/en/latest/tune/examples/tune-pytorch-cifar.html: a function trainable
builds the model and the loaders, decodes and preprocesses every image every epoch, and runs the
whole encoder. Layers below the lowest trained one get no gradient. The tutorial's search algorithm
and scheduler are left out, because all peers train the same configurations for the same time.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from benchmarks.jobs import Answer, Job, Outcome, Trial

Batches = Iterable[tuple[Tensor, Tensor]]


class Photos(Dataset[tuple[Tensor, int]]):
    """Labelled image files, decoded and preprocessed at every access."""

    def __init__(self, images: Sequence[tuple[str, int]], transform: Any) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.images[index]
        return self.transform(Image.open(file).convert("RGB")), label


class Adapted(nn.Module):
    """CLIP's image tower with a linear classifier on its normalised output."""

    def __init__(self, visual: nn.Module, dim: int, classes: int) -> None:
        super().__init__()
        self.visual, self.scale = visual, dim**0.5
        self.head = zero_head(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C) of preprocessed images."""
        logits: Tensor = self.head(F.normalize(self.visual(images), dim=-1) * self.scale)
        return logits


def zero_head(dim: int, classes: int) -> nn.Linear:
    """Make a linear classifier that starts from zeros."""
    head = nn.Linear(dim, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def tower(job: Job) -> tuple[Any, Any]:
    """Load CLIP's image tower, and its preprocessing."""
    clip, preprocess = open_clip.create_model_from_pretrained(job.model, job.pretrained)
    return clip.visual.float().eval(), preprocess


def is_kind(name: str, kinds: Iterable[str]) -> bool:
    """Return whether a block's parameter is of one of `kinds`, by open_clip's or timm's name."""
    if "ln_" in name or "norm" in name:
        return "ln" in kinds
    return ("attn" if "attn" in name else "mlp") in kinds


def parameter_groups(model: Adapted, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters to train with their rates and decays, and freeze all others."""
    visual: Any = model.visual
    timm = hasattr(visual, "trunk")
    blocks = visual.trunk.blocks if timm else visual.transformer.resblocks
    model.requires_grad_(False)
    decay = config.get("weight_decay", 0.0)
    groups = []

    def add(name: str, parameter: nn.Parameter, lr: float) -> None:
        parameter.requires_grad_()
        weight_decay = decay if parameter.ndim > 1 else 0.0
        groups.append({"params": [parameter], "lr": lr, "weight_decay": weight_decay})

    for name, parameter in model.head.named_parameters():
        add(name, parameter, config["head_lr"])
    if config["blocks"] == "none":
        return groups
    ends = [int(end) for end in config["blocks"].split("-")]
    kinds, last = config["kinds"].split("+"), len(blocks) - 1
    for i in range(min(ends), max(ends) + 1):
        lr = config["lr"] * config.get("llrd_decay", 1.0) ** (last - i)
        for name, parameter in blocks[i].named_parameters():
            if is_kind(name, kinds):
                add(name, parameter, lr)
    if max(ends) == last and "ln" in kinds:
        for name, parameter in (visual.trunk.norm if timm else visual.ln_post).named_parameters():
            add(name, parameter, config["lr"])
    return groups


def rate(trial: Trial, step: int, batch: int) -> float:
    """Return the share of the peak rate: linear warm-up, then a cosine."""
    warmup: float = trial.config.get("warmup", 0.0)
    samples = step * batch
    seen = samples / trial.horizon
    if seen < warmup:
        return min(1.0, (samples + batch) / (warmup * trial.horizon))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (seen - warmup) / (1 - warmup))))


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    """Return the share of images that are classified correctly."""
    right, total = 0, 0
    for images, labels in batches:
        right += int((model(images).argmax(1) == labels).sum())
        total += len(labels)
    return right / total


def fit(
    trial: Trial,
    model: nn.Module,
    groups: list[dict[str, Any]],
    images: Any,
    clipped: Sequence[nn.Parameter] = (),
    val: Batches | None = None,
) -> Outcome:
    """Train the parameters of `groups` on labelled inputs, and evaluate where there is `val`."""
    outcome = Outcome()
    optimizer = torch.optim.AdamW(groups)
    batch_size = trial.batch_size(len(images))
    scheduler = LambdaLR(optimizer, lambda step: rate(trial, step, batch_size))
    smoothing = trial.config.get("label_smoothing", 0.0)
    for rows in trial.portions(len(images)):
        began = time.process_time()
        for inputs, labels in DataLoader(images, batch_size=batch_size, sampler=rows):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), labels, label_smoothing=smoothing)
            loss.backward()
            if clipped:
                nn.utils.clip_grad_norm_(clipped, 1.0)
            optimizer.step()
            scheduler.step()
            outcome.losses.append([loss.item()])
        outcome.seconds.append(time.process_time() - began)
        if val is not None:
            began = time.process_time()
            outcome.val_accuracy.append(accuracy(model, val))
            outcome.evaluation += time.process_time() - began
    return outcome


def train(job: Job, trial: Trial) -> Outcome:
    """Run one trial from beginning to end."""
    visual, preprocess = tower(job)
    dim = visual(torch.zeros(1, 3, *visual.image_size)).shape[1]
    model = Adapted(visual, dim, job.classes)
    groups = parameter_groups(model, trial.config)
    trained = [p for p in visual.parameters() if p.requires_grad]
    val = DataLoader(Photos(job.val, preprocess), batch_size=64) if job.val else None
    return fit(trial, model, groups, Photos(job.train, preprocess), trained, val)


def tuned(job: Job) -> Answer:
    """Run all trials under Ray Tune on one CPU each; `once` is the Tuner's wall time."""
    import ray
    from ray import tune as ray_tune

    def trainable(config: dict[str, Any], job: Job) -> None:
        torch.set_num_threads(1)
        outcome = train(job, job.trials[config["trial"]])
        ray_tune.report({"outcome": asdict(outcome), "trial": config["trial"]})

    # Without `local`, Ray first tries the address of a cluster that ended without `ray stop`.
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    results = ray_tune.Tuner(
        ray_tune.with_resources(ray_tune.with_parameters(trainable, job=job), {"cpu": 1}),
        param_space={"trial": ray_tune.grid_search(list(range(len(job.trials))))},
        run_config=ray_tune.RunConfig(verbose=0, storage_path=tempfile.mkdtemp()),
    ).fit()
    once = time.perf_counter() - began
    metrics = [results[i].metrics or {} for i in range(len(results))]
    found = {each["trial"]: each["outcome"] for each in metrics}
    return Answer([Outcome(**found[i]) for i in range(len(job.trials))], once)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", type=Path)
    parser.add_argument("--ray", action="store_true", help="under Ray Tune")
    arguments = parser.parse_args()
    job = Job.read(arguments.job)
    if arguments.ray:
        from benchmarks.peers import naive  # by its name, which Ray's workers can import

        naive.tuned(job).print()
        return
    torch.set_num_threads(1)
    Answer([train(job, trial) for trial in job.trials]).print()


if __name__ == "__main__":
    main()
