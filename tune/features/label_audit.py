"""The audit of labels: each image is judged by a probe that was not trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from data import Judged, Split, doubtful_rows, fold_ids, partition_rows, unit_ids
from models.encoder import HEAD
from models.head import LinearHead
from models.logistic_regression import solve_probes
from models.micro_batches import cpu_on_oom
from records import LabelIssue
from tune.workers.actor_pool import ActorPool, result_of
from tune.workers.object_store import SharedSplit
from tune.workers.own_device import own_device

FOLDS = 5
MOST = 50_000  # images that take part
PAIRS = 50_000_000  # of these images and a class: a probe of more takes hours
BLOCK = 1 << 23  # numbers: of images x classes, at once
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of the probes; the held-out images choose one. Weaker ones are too sure of themselves."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOutProbe:
    """Fits probes without one fold of the images, in a process of its own.

    Attributes:
        splits: holds the images' embeddings.
        rows: those of each split that take part.
        labels, folds: class and fold of each of these images, one split after another.
        threads: of torch.
    """

    splits: Sequence[SharedSplit]
    rows: Sequence[Rows]
    labels: Rows
    folds: Rows
    classes: int
    threads: int

    def judged(self, fold: int) -> Judged:
        """Judge a fold's images, in their order."""
        torch.set_num_threads(self.threads)
        device = torch.device(own_device())
        pairs = zip(self.splits, self.rows, strict=True)
        embeddings = np.concatenate([split.features[HEAD].get()[rows] for split, rows in pairs])
        x = torch.from_numpy(embeddings).to(device).float()
        y, held = (torch.tensor(a, device=device) for a in (self.labels, self.folds == fold))

        def solve(x: Tensor, y: Tensor, held: Tensor) -> Judged:
            heads, _ = solve_probes(x[~held], y[~held], self.classes, DECAYS)
            blocks = list(zip(x[held].split(self._block), y[held].split(self._block), strict=True))

            def loss(head: LinearHead) -> float:
                return sum(
                    F.cross_entropy(_logits(head, some), own, reduction="sum").item()
                    for some, own in blocks
                )

            best = min(heads, key=loss)
            parts = []
            for some, own in blocks:
                p = _logits(best, some).softmax(-1)
                parts.append((p.gather(-1, own[:, None])[:, 0], p.argmax(-1), p.amax(-1)))
            return Judged(*(torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True)))

        return cpu_on_oom(solve, x, y, held)

    @property
    def _block(self) -> int:
        """The images that are judged at once: memory may not hold all x classes."""
        return max(1, BLOCK // self.classes)


def _logits(head: LinearHead, x: Tensor) -> Tensor:
    return F.linear(x, head.weight, head.bias)


def audited_images(images: int, classes: int) -> int:
    """Return how many images an audit judges: 0 if they would be too few for the classes."""
    most = min(images, MOST, PAIRS // classes)
    return most if most == images or most >= FOLDS * classes else 0


def left_out(images: int, classes: int) -> Iterator[str]:
    """Say that no audit is made, where it is not."""
    if not audited_images(images, classes):
        yield (
            f"no label audit: of {classes:,} classes it judges {PAIRS // classes:,} images "
            f"at most, fewer than {FOLDS} a class"
        )


def audit_labels(
    features: Mapping[str, tuple[SharedSplit, Split]],
    classes: Sequence[str],
    pool: ActorPool,
    *,
    seed: int,
    threads: int,
    say: Callable[[str], None],
) -> list[LabelIssue]:
    """List the images whose label is probably wrong, the most probable errors first.

    The images of a group, and images of equal contents, are held out together. A class whose images
    are all held out at once cannot be judged. Of more than `audited_images` a share is drawn.

    Args:
        features: by the split's name, its embeddings and its images.
        classes: their names.
        pool: what the probes are fitted on.
        seed: of the folds.
        threads: of each process.
        say: is called with a line where images are left out.

    Raises:
        InputError: a process failed again and again.
    """
    labels = np.concatenate([split.labels for _, split in features.values()])
    units = unit_ids(*_contents_and_groups(features))
    rows = np.arange(len(labels))
    most = audited_images(len(rows), len(classes))
    if len(rows) > most:
        rows = partition_rows(labels, units, 100 * most / len(rows), seed, purpose="audit")
        say(f"label audit: {len(rows):,} of {len(labels):,} images, drawn by class")
    labels, folds = labels[rows], fold_ids(labels[rows], units[rows], FOLDS, seed)
    if not folds.any():  # one group alone: nothing is left to learn from
        return []
    bounds = np.cumsum([0, *(len(split) for _, split in features.values())])
    own = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(bounds)]
    shared = tuple(each for each, _ in features.values())
    worker = HeldOutProbe(shared, own, labels, folds, len(classes), threads)
    found = Judged(np.zeros(len(rows)), np.zeros(len(rows), np.int64), np.zeros(len(rows)))
    for fold, result in pool.map(HeldOutProbe.judged, worker, np.unique(folds).tolist()):
        for values, own in zip(found, result_of(result, "label audit"), strict=True):
            values[folds == fold] = own
    judged = np.flatnonzero(_seen_elsewhere(labels, folds))
    splits = [name for name, (_, split) in features.items() for _ in range(len(split))]
    keys = [key for _, split in features.values() for key in split.keys]
    issues = []
    for doubt in doubtful_rows(found.of(judged), labels[judged]):
        image, label = rows[judged[doubt.row]], labels[judged[doubt.row]]
        issues.append(
            LabelIssue(
                split=splits[image],
                key=keys[image],
                label=classes[label],
                suggested=classes[doubt.suggested],
                given_probability=round(doubt.given_probability, 4),
                suggested_probability=round(doubt.suggested_probability, 4),
            )
        )
    return issues


def _contents_and_groups(
    features: Mapping[str, tuple[SharedSplit, Split]],
) -> tuple[list[str], list[str]]:
    """Return digest and group of every image; one without a group is a group of its own."""
    digests: list[str] = []
    groups: list[str] = []
    for name, (_, split) in features.items():
        digests += split.digests or ()
        groups += split.groups or [f"{name}/{key}" for key in split.keys]
    return digests, groups


def _seen_elsewhere(labels: Rows, folds: Rows) -> NDArray[np.bool_]:
    """Whether an image's class has images outside the image's fold."""
    within = np.zeros((int(folds.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(within, (folds, labels), 1)
    seen: NDArray[np.bool_] = within.sum(axis=0)[labels] > within[folds, labels]
    return seen
