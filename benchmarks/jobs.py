"""The jobs that peers are given and their answers, in JSON between processes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.feature_dataset import ShuffleStream


@dataclass(frozen=True)
class Trial:
    """One configuration to train, on samples in a given order.

    Attributes:
        config: a recipe's settings (models/recipe.py); only ours takes banks of several heads.
        horizon: samples at which the learning rate reaches zero.
        reports: samples after which to evaluate and take the time; the last ends the training.
        seed: seed of the order of samples.
        rows: rows of `Job.train` to train on; None for all.
    """

    config: dict[str, Any]
    horizon: int
    reports: list[int]
    seed: int = 0
    rows: list[int] | None = None

    def portions(self, images: int) -> Iterator[list[int]]:
        """Yield the rows, of `images` in all, to train on until each report, in whole batches."""
        rows = np.arange(images) if self.rows is None else np.array(self.rows)
        order, batch, seen = ShuffleStream(len(rows), self.seed), self.batch_size(images), 0
        for end in self.reports:
            count = -(-(end - seen) // batch) * batch
            yield rows[order.take(seen, count)].tolist()
            seen += count

    def batch_size(self, images: int) -> int:
        """Return the batch size, at most an epoch."""
        size: int = self.config["batch_size"]
        return min(size, images if self.rows is None else len(self.rows))


@dataclass(frozen=True)
class Job:
    """Labelled images, an encoder, and the trials to run on them.

    Attributes:
        model, pretrained: the encoder, as in an experiment's YAML.
        train, val: (file, label) of each image; an empty `val` means no evaluation.
        precision: of our matrix products.
    """

    model: str
    pretrained: str | None
    train: list[tuple[str, int]]
    val: list[tuple[str, int]]
    classes: int
    trials: list[Trial]
    precision: Literal["float32", "bfloat16"] = "float32"

    def write(self, path: Path) -> None:
        """Write the job to a file of JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        """Read what `write` wrote."""
        fields = json.loads(path.read_text())
        return cls(**{**fields, "trials": [Trial(**trial) for trial in fields["trials"]]})


def job_argument(description: str) -> Job:
    """Read the job that a peer's command line names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("job", type=Path)
    return Job.read(parser.parse_args().job)


@dataclass
class Outcome:
    """What one trial did.

    Attributes:
        losses: (steps, heads), each loss before its update.
        val_accuracy: accuracy at each report.
        seconds: processor time of the training before each report, without evaluations. One thread
            does the work; unlike wall time, this leaves out what else the machine does.
        evaluation: processor time of all evaluations, in seconds.
    """

    losses: list[list[float]] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluation: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a peer did; `once` is the processor time of the work done once for all trials."""

    trials: list[Outcome]
    once: float = 0.0

    def print(self) -> None:
        """Print the answer as one line of JSON."""
        json.dump(asdict(self), sys.stdout)
        print()

    @classmethod
    def parse(cls, text: str) -> Answer:
        """Read the answer from the last line of a peer's output."""
        fields = json.loads(text.strip().splitlines()[-1])
        return cls([Outcome(**trial) for trial in fields["trials"]], fields["once"])
