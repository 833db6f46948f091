"""Measure what averaged weights, WiSE-FT and cached views gain.

    python -m benchmarks.after_training search_spaces/digits.yaml llrd --partitions 1,10,100

It fits the method's default with several seeds, as final fits do, in a loop without Ray. It prints
the test accuracy of the tuned weights, and what each addition gains in points: the mean over seeds
of the paired difference, with its 95% t-interval. The interval covers the draw of training images
(at 100% only the order of samples), not that of test images, which are the same for all seeds.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fits import Laboratory
from models import Fit, select, select_weights
from partitions import Partition
from report.intervals import t_interval
from search_spaces import load_experiment
from tune.search.schedulers import milestones

TUNED = "tuned"
ADDITIONS = ("averaged", "interpolated", "views")


def trained(lab: Laboratory, fit: Fit) -> Fit:
    """Train a fit to its horizon."""
    for point in milestones(fit.horizon, lab.experiment.search, fit.images):
        fit.train_until(point)
    return fit


def accuracies(
    lab: Laboratory, method: str, partition: Partition, seed: int, views: int
) -> dict[str, float]:
    """Return the test accuracy of one seed's fit, tuned alone and with each addition."""
    config = lab.experiment.methods[method].parsed.first() | {"views": 0}
    where = (method, partition, lab.probe(partition, seed), seed)
    averaged = trained(lab, lab.fit(config, *where, average=True))
    tuned, interpolated = lab.fit(config, *where), lab.fit(config, *where)
    for fit in (tuned, interpolated):
        fit.load_state_dict(copy.deepcopy(averaged.state_dict()))
    select_weights(tuned, ())
    select_weights(interpolated, lab.experiment.final.wise_ft)
    select_weights(averaged, ())
    found = {
        TUNED: tested(lab, tuned),
        "averaged": tested(lab, averaged),
        "interpolated": tested(lab, interpolated),
    }
    if views:
        with_views = trained(lab, lab.fit(config | {"views": views}, *where))
        select_weights(with_views, ())
        found["views"] = tested(lab, with_views)
    return found


def tested(lab: Laboratory, fit: Fit) -> float:
    """Return the test accuracy of the weights that a fit has chosen."""
    test = lab.examples("test", select(fit.recipe, lab.encoder).boundary)
    assert fit.best is not None
    predicted = fit.logits(test, fit.best.head).argmax(1).numpy()
    return float((predicted == test.labels).mean())


def points(differences: NDArray[np.float64]) -> str:
    """Format a mean in points, and half its 95% t-interval."""
    gain = t_interval(differences)
    return f"{100 * gain.mean:+.2f} ± {100 * (gain.half_width or 0.0):.2f}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("method")
    parser.add_argument("--partitions", default="10,100")
    parser.add_argument("--seeds", type=int, default=5, help="at least two")
    parser.add_argument("--views", type=int, default=2, help="0 leaves them out")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiment = load_experiment(arguments.space, arguments.set)
    default = experiment.methods[arguments.method].parsed.first()
    lab = Laboratory(experiment, [default | {"views": arguments.views}], ("train", "val", "test"))
    columns = ADDITIONS if arguments.views else ADDITIONS[:-1]
    print(f"| % of train | {TUNED} | {' | '.join(columns)} |")
    print("|---" * (2 + len(columns)) + "|")
    for partition in (float(piece) for piece in arguments.partitions.split(",")):
        found = [
            accuracies(lab, arguments.method, partition, seed, arguments.views)
            for seed in range(arguments.seeds)
        ]
        tuned = np.array([each[TUNED] for each in found])
        gains = [points(np.array([each[column] for each in found]) - tuned) for column in columns]
        print(f"| {partition:g} | {tuned.mean():.2%} | {' | '.join(gains)} |", flush=True)


if __name__ == "__main__":
    main()
