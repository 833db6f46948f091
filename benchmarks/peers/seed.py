"""Run a job as the three scripts do that this project began with: a probe on saved embeddings.

    python -m benchmarks.peers.seed JOB.json

`experiment.py` runs the frozen encoder over the images once, saves the embeddings, and trains the
head on them with a DataLoader. To unfreeze layers the other two scripts run the whole encoder, as
`naive` does without Ray.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.jobs import Answer, Job, Outcome, Trial, job_argument
from benchmarks.peers.naive import Photos, fit, tower, zero_head


@torch.no_grad()
def precompute(job: Job, file: Path) -> None:
    """Write the embeddings of all training images, and their labels."""
    visual, preprocess = tower(job)
    parts, labels = [], []
    for images, batch_labels in DataLoader(Photos(job.train, preprocess), batch_size=64):
        embeddings = visual(images)
        parts.append(F.normalize(embeddings, dim=-1) * embeddings.shape[1] ** 0.5)
        labels.append(batch_labels)
    torch.save((torch.cat(parts), torch.cat(labels)), file)


def probe(job: Job, trial: Trial, file: Path) -> Outcome:
    """Train a head on the embeddings."""
    embeddings, labels = torch.load(file, weights_only=True)
    head = zero_head(embeddings.shape[1], job.classes)
    lr, decay = trial.config["head_lr"], trial.config.get("weight_decay", 0.0)
    groups = [
        {"params": [head.weight], "lr": lr, "weight_decay": decay},
        {"params": [head.bias], "lr": lr, "weight_decay": 0.0},
    ]
    return fit(trial, head, groups, TensorDataset(embeddings, labels))


def main() -> None:
    """Run the command line."""
    job = job_argument(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.pt"
        began = time.process_time()
        precompute(job, file)
        once = time.process_time() - began
        Answer([probe(job, trial, file) for trial in job.trials], once).print()


if __name__ == "__main__":
    main()
