"""Our probe beside scikit-learn's `LogisticRegression` with a validated C, on the same embeddings.

    python -m benchmarks.probe search_spaces/digits.yaml --partitions 10,50,100 --seeds 5

Both choose on the validation split and are then scored once on the test split. For each seed both
get the rows that a final fit of that seed gets. Ours is the first configuration of the
experiment's probe. Prints a Markdown table: mean test accuracy over seeds, and seconds a fit of
the whole bank (or grid) takes, on one thread. No Ray: a loop.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.record_curves import features
from data import load_dataset, partition_indices
from models.encoder import HEAD, Encoder
from models.examples import Examples
from models.fit import Fit
from models.loading import load_pretrained
from models.precision import Precision
from models.recipe import Recipe
from tune.bench import derived_seed
from tune.experiment import Experiment, load_experiment

GRID = np.logspace(-3, 3, 13)
"""Values of C = 1 / (n weight_decay)."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """Embeddings of all images, and what a probe is told besides."""

    encoder: Encoder
    train: Examples
    val: Examples
    test: Examples
    classes: int


def embedded(experiment: Experiment) -> Splits:
    """The experiment's three splits at the encoder's last boundary."""
    dataset, pretrained = load_dataset(experiment.data), load_pretrained(experiment.model)
    precision = Precision("cpu", experiment.model.precision)

    def examples(split_name: str) -> Examples:
        split = getattr(dataset, split_name)
        found = features(pretrained, split, dataset.source, [HEAD], precision)[HEAD]
        return Examples(found.astype(np.float32), split.labels, np.arange(len(split)))

    train, val, test = (examples(name) for name in ("train", "val", "test"))
    return Splits(pretrained.encoder, train, val, test, len(dataset.classes))


def ours(experiment: Experiment, method: str, splits: Splits, rows: Rows, seed: int) -> float:
    """Test accuracy of the head that the method's first configuration ends with."""
    recipe = Recipe(**experiment.methods[method].parsed.first())
    train, horizon = splits.train, experiment.horizon(method)
    fit = Fit(
        splits.encoder,
        recipe,
        HEAD,
        Examples(train.features, train.labels, rows),
        splits.val,
        classes=splits.classes,
        horizon=horizon,
        seed=derived_seed(experiment.seed, seed, "order"),
    )
    for share in (1 / 3, 2 / 3, 1) if recipe.trained else (1,):
        fit.advance(round(share * horizon))
    head = fit.restore_best()
    x = torch.from_numpy(splits.test.features)
    predicted = (x @ head.weight.T + head.bias).argmax(1).numpy()
    return float((predicted == splits.test.labels).mean())


def sklearns(splits: Splits, rows: Rows) -> float:
    """Test accuracy with the C of the best validation accuracy; the smallest of equals."""
    x, y = splits.train.features[rows], splits.train.labels[rows]
    best, best_accuracy = None, -1.0
    for strength in GRID:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=strength, max_iter=1000).fit(x, y)
        accuracy = model.score(splits.val.features, splits.val.labels)
        if accuracy > best_accuracy:
            best, best_accuracy = model, accuracy
    assert best is not None
    return float(best.score(splits.test.features, splits.test.labels))


def timed(measure: Callable[..., float], *arguments: object) -> tuple[float, float]:
    """What `measure` gives, and the seconds it took."""
    began = time.perf_counter()
    return measure(*arguments), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("--partitions", default="10,50,100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    experiment = load_experiment(arguments.space, arguments.set)
    method = experiment.probe
    if method is None:
        parser.error(f"{arguments.space}: methods: none is a probe; needed is blocks: none")
    splits = embedded(experiment)
    print("| % of train | ours | scikit-learn | difference, points | ours, s | scikit-learn, s |")
    print("|---|---|---|---|---|---|")
    for partition in (float(piece) for piece in arguments.partitions.split(",")):
        found = []
        for seed in range(arguments.seeds):
            draw = derived_seed(experiment.seed, seed, "partition")
            rows = partition_indices(splits.train.labels, partition, draw)
            mine_and_seconds = timed(ours, experiment, method, splits, rows, seed)
            found.append((*mine_and_seconds, *timed(sklearns, splits, rows)))
        mine, seconds, theirs, their_seconds = np.mean(found, axis=0)
        print(
            f"| {partition:g} | {mine:.2%} | {theirs:.2%} | {100 * (mine - theirs):+.2f} "
            f"| {seconds:.2f} | {their_seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
