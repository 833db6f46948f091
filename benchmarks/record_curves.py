"""Record learning curves: random configurations of a method, each trained to its horizon.

    python -m benchmarks.record_curves search_spaces/digits.yaml llrd --partitions 1,10,30,50,100 \
        --configs 96 --out benchmarks/curves/digits.json

The configurations are the same at every partition; the first one is the method's default. Every
head starts from its partition's probe. `benchmarks/search.py` plays searches on the curves. The
file is written after every configuration, and the same command continues where one ended. The fits
run in a loop, without Ray.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import RandomSampler

from benchmarks.fits import Laboratory
from files import replacing
from models import Evaluation, LinearHead
from partitions import Partition
from search_spaces import Experiment, Params, load_experiment
from search_spaces.schema import MOST

SHARES = (1 / 27, 1 / 16, 1 / 9, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1)
"""The points of a curve, in shares of the horizon: every rung of halving by 2, 3 and 4."""


def configurations(experiment: Experiment, method: str, count: int) -> list[Params]:
    """Return the default, and `count - 1` random draws from the method's space."""
    space = experiment.methods[method].parsed
    study = optuna.create_study(sampler=RandomSampler(experiment.seed))
    return [space.first(), *(space.suggest(study.ask()) for _ in range(count - 1))]


def promised(evaluation: Evaluation) -> float:
    """Return the value that trials are compared by."""
    return evaluation.score if evaluation.prospect is None else evaluation.prospect


def curve(
    lab: Laboratory, config: Params, method: str, partition: Partition, start: LinearHead
) -> list[list[float]]:
    """Return [validation accuracy, validation loss, prospect] at every point."""
    fit = lab.fit(config, method, partition, start)
    reached = [fit.train_until(point, True) for point in points(lab.experiment, method)]
    return [[round(x, 6) for x in (e.val_accuracy, e.val_loss, promised(e))] for e in reached]


def points(experiment: Experiment, method: str) -> list[int]:
    """Return the samples at which a curve is evaluated, at every partition."""
    return [round(share * experiment.horizon(method, MOST)) for share in SHARES]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path)
    parser.add_argument("method")
    parser.add_argument("--partitions", required=True)
    parser.add_argument("--configs", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    partitions = [float(piece) for piece in arguments.partitions.split(",")]
    uncut = f"search.epochs={MOST}"  # small partitions too: what a shorter horizon loses is seen
    experiment = load_experiment(arguments.space, [uncut, *arguments.set])
    configs = configurations(experiment, arguments.method, arguments.configs)
    lab = Laboratory(experiment, configs, ("train", "val"))
    table: dict[str, Any] = {
        "name": experiment.name,
        "space_file": str(arguments.space),
        "method": arguments.method,
        "space": experiment.methods[arguments.method].space,
        "default": experiment.methods[arguments.method].default,
        "horizon": experiment.horizon(arguments.method, MOST),
        "points": points(experiment, arguments.method),
        "n_val": len(lab.dataset.val),
        "partitions": partitions,
        "images": {f"{partition:g}": len(lab.rows(partition, 0)) for partition in partitions},
        "configs": configs,
        "curves": {f"{partition:g}": [] for partition in partitions},
    }
    if arguments.out.exists():
        earlier = json.loads(arguments.out.read_text())
        now = json.loads(json.dumps({**table, "configs": configs[: len(earlier["configs"])]}))
        if changed := [key for key in now if key != "curves" and now[key] != earlier.get(key)]:
            parser.error(f"{arguments.out} was recorded with other {', '.join(changed)}")
        table["curves"] = earlier["curves"]
    probes = {partition: lab.probe(partition) for partition in partitions}
    for number, config in enumerate(configs):
        began = time.perf_counter()
        for partition in partitions:
            done = table["curves"][f"{partition:g}"]
            if len(done) == number:
                done.append(curve(lab, config, arguments.method, partition, probes[partition]))
        whole = min(len(curves) for curves in table["curves"].values())
        with replacing(arguments.out) as path:
            path.write_text(json.dumps({**table, "configs": configs[:whole]}))
        print(f"{number + 1}/{len(configs)}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
