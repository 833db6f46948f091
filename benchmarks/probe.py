"""Compare our probe with scikit-learn's `LogisticRegression` and a validated C.

    python -m benchmarks.probe search_spaces/digits.yaml --partitions 10,50,100 --seeds 5

Both train on the embeddings of the rows that a final fit of that seed gets, choose on the
validation split, and are scored once on the test split. Ours is the first configuration of the
experiment's probe. It prints the mean test accuracy over seeds, and the seconds to fit the whole
bank (or grid) on one thread, without Ray. On digits it takes about a minute.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.fits import Laboratory
from models import HEAD
from partitions import Partition
from search_spaces import load_experiment

GRID = np.logspace(-3, 3, 13)
"""Values of C = 1 / (n weight_decay)."""


def ours(lab: Laboratory, partition: Partition, seed: int) -> float:
    """Return the test accuracy of the probe's first configuration."""
    head, test = lab.probe(partition, seed), lab.examples("test", HEAD)
    predicted = (torch.from_numpy(test.features) @ head.weight.T + head.bias).argmax(1).numpy()
    return float((predicted == test.labels).mean())


def sklearns(lab: Laboratory, partition: Partition, seed: int) -> float:
    """Return the test accuracy with the C that validates best, the smallest of equals."""
    train, val, test = (lab.examples(name, HEAD) for name in ("train", "val", "test"))
    rows = lab.rows(partition, seed)
    x, y = train.features[rows], train.labels[rows]
    best, best_accuracy = None, -1.0
    for strength in GRID:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=1000).fit(x, y)
        accuracy = model.score(val.features, val.labels)
        if accuracy > best_accuracy:
            best, best_accuracy = model, accuracy
    assert best is not None
    return float(best.score(test.features, test.labels))


def timed(measure: Callable[..., float], *arguments: object) -> tuple[float, float]:
    """Return what `measure` returns, and the seconds it took."""
    began = time.perf_counter()
    return measure(*arguments), time.perf_counter() - began


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("--partitions", default="10,50,100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    experiment = load_experiment(arguments.space, arguments.set)
    if experiment.probe is None:
        parser.error(f"{arguments.space}: methods: none is a probe; needed is blocks: none")
    lab = Laboratory(experiment, [], ("train", "val", "test"))
    print("| % of train | ours | scikit-learn | difference, points | ours, s | scikit-learn, s |")
    print("|---|---|---|---|---|---|")
    for partition in (float(piece) for piece in arguments.partitions.split(",")):
        found = [
            (*timed(ours, lab, partition, seed), *timed(sklearns, lab, partition, seed))
            for seed in range(arguments.seeds)
        ]
        mine, seconds, theirs, their_seconds = np.mean(found, axis=0)
        print(
            f"| {partition:g} | {mine:.2%} | {theirs:.2%} | {100 * (mine - theirs):+.2f} "
            f"| {seconds:.2f} | {their_seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
