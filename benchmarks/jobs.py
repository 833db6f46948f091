"""What a peer is given to do, and what it answers: files of JSON between processes."""

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
    """One configuration to train, its samples in order.

    Attributes:
        config: a recipe's settings (models/recipe.py); banks of several heads are for ours alone.
        rows: which images of `Job.train` take part; all without.
        seed: of the order of samples.
        horizon: samples at which the learning rate reaches zero.
        reports: samples after which to evaluate and take the time, the last of them the end.
    """

    config: dict[str, Any]
    horizon: int
    reports: list[int]
    seed: int = 0
    rows: list[int] | None = None

    def portions(self, images: int) -> Iterator[list[int]]:
        """The rows to train on until each report, whole batches of them.

        Args:
            images: of `Job.train`.
        """
        rows = np.arange(images) if self.rows is None else np.array(self.rows)
        order, batch, seen = ShuffleStream(len(rows), self.seed), self.batch_size(images), 0
        for end in self.reports:
            count = -(-(end - seen) // batch) * batch
            yield rows[order.take(seen, count)].tolist()
            seen += count

    def batch_size(self, images: int) -> int:
        """No batch is larger than an epoch."""
        size: int = self.config["batch_size"]
        return min(size, images if self.rows is None else len(self.rows))


@dataclass(frozen=True)
class Job:
    """Labelled images, an encoder, and trials of it.

    Attributes:
        model, pretrained: as in an experiment's YAML.
        train, val: (file, label) of each image; without `val` nothing is evaluated.
        classes: C.
        precision: what ours runs matrix products in.
    """

    model: str
    pretrained: str | None
    train: list[tuple[str, int]]
    val: list[tuple[str, int]]
    classes: int
    trials: list[Trial]
    precision: Literal["float32", "bfloat16"] = "float32"

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Job:
        fields = json.loads(path.read_text())
        return cls(**{**fields, "trials": [Trial(**trial) for trial in fields["trials"]]})


def asked(what: str) -> Job:
    """The job that a peer's command line names."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("job", type=Path)
    return Job.read(parser.parse_args().job)


@dataclass
class Outcome:
    """What one trial did.

    Attributes:
        losses: of each step, before its update; of each head of a bank.
        val_accuracy: at each report.
        seconds: of the processor, training between reports, evaluation apart. (One thread does the
            work; unlike wall time this does not count what else the machine does.)
        evaluation: the same of evaluation.
    """

    losses: list[list[float]] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluation: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a peer did; `once` is what it did for all trials, in seconds of the processor."""

    trials: list[Outcome]
    once: float = 0.0

    def print(self) -> None:
        json.dump(asdict(self), sys.stdout)
        print()

    @classmethod
    def parse(cls, text: str) -> Answer:
        fields = json.loads(text.strip().splitlines()[-1])
        return cls([Outcome(**trial) for trial in fields["trials"]], fields["once"])
