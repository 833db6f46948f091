"""Run a job our way, without Ray: features once, then every trial from its boundary.

python -m benchmarks.peers.ours JOB.json
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.jobs import Answer, Job, Outcome, Trial, job_argument
from data import FileSource
from models import Device, FeatureDataset, Fit, ModelConfig, Recipe, load_pretrained, select

BATCH = 64  # images in one pass
FILES = FileSource(Path())
Arrays = dict[str, NDArray[np.float32]]


class Bench:
    """The features of a job's images at the boundaries of its trials."""

    def __init__(self, job: Job) -> None:
        self.job = job
        pretrained = load_pretrained(ModelConfig(name=job.model, pretrained=job.pretrained))
        self.encoder = pretrained.encoder
        boundaries = {select(Recipe(**trial.config), self.encoder).boundary for trial in job.trials}
        self._splits: dict[str, Arrays] = {}
        for name, images in {"train": job.train, "val": job.val}.items():
            parts: dict[str, list[NDArray[np.float32]]] = {b: [] for b in boundaries}
            for begin in range(0, len(images), BATCH):
                decoded = [FILES.image(file) for file, _ in images[begin : begin + BATCH]]
                pixels = torch.stack([pretrained.preprocess(image) for image in decoded])
                for boundary, x in self.encoder.features(pixels, boundaries).items():
                    parts[boundary].append(x.numpy())
            self._splits[name] = {b: np.concatenate(p) for b, p in parts.items() if p}

    def examples(self, split: str, boundary: str, rows: list[int] | None = None) -> FeatureDataset:
        """Return the examples of some rows of a split, or of all."""
        images = self.job.train if split == "train" else self.job.val
        labels = np.array([label for _, label in images], np.int64)
        features = self._splits[split][boundary]
        every = np.arange(len(labels)) if rows is None else np.array(rows)
        return FeatureDataset(features, labels, every)

    def run(self, trial: Trial) -> Outcome:
        """Train one trial."""
        outcome = Outcome()
        selection = select(Recipe(**trial.config), self.encoder)
        boundary = selection.boundary
        fit = Fit(
            self.encoder,
            selection,
            boundary,
            self.examples("train", boundary, trial.rows),
            # Without `val` it is not judged, but has to have something to be judged by.
            self.examples("val" if self.job.val else "train", boundary),
            classes=self.job.classes,
            horizon=trial.horizon,
            seed=trial.seed,
            device=Device("cpu", self.job.precision),
        )
        for end in trial.reports:
            began = time.process_time()
            losses = []
            while fit.samples < end:
                losses.append(fit.step())
            outcome.losses += [loss.tolist() for loss in losses]
            outcome.seconds.append(time.process_time() - began)
            if self.job.val:
                began = time.process_time()
                outcome.val_accuracy.append(fit.train_until(end).val_accuracy)
                outcome.evaluation += time.process_time() - began
        return outcome


def main() -> None:
    """Run the command line."""
    job = job_argument(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    began = time.process_time()
    bench = Bench(job)
    once = time.process_time() - began
    Answer([bench.run(trial) for trial in job.trials], once).print()


if __name__ == "__main__":
    main()
